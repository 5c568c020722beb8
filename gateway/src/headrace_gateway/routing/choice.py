"""Which deployments would do for a request, in which order: by project, by weight, and the same again for one session.

Pure. Of equals the order is by rendezvous hashing: a session, or a conversation by its beginning, keeps its
deployment, and its prefix cache, while others come and go, and a deployment gets its weight's share of sessions.
"""

import math
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b

from headrace_contracts.deployments import Deployment

HASH_BYTES = 8


def in_order(
    deployments: Sequence[Deployment],
    *,
    org: str,
    project: str,
    affinity: Callable[[], bytes | None],
    now: float,
) -> list[Deployment]:
    """Best first: an organisation's own before those of all, a project's own before others, deprecated ones last.

    `affinity` names what should stay together; it is asked for only where there is a choice. `now`: seconds since 1970.
    """
    found = open_to(deployments, project)
    if len(found) < 2:
        return found
    # Whose sessions they are is part of the hash, so that no organisation chooses for another.
    key = blake2b(org.encode(), digest_size=HASH_BYTES)
    key.update(b"\0" + (affinity() or os.urandom(HASH_BYTES)))
    digest = key.digest()
    return sorted(
        found,
        key=lambda each: (
            each.tenant is None,
            not each.projects,
            _is_deprecated(each, now),
            -_score(each, digest),
        ),
    )


def open_to(deployments: Sequence[Deployment], project: str) -> list[Deployment]:
    """Those that are not other projects' alone."""
    return [each for each in deployments if not each.projects or project in each.projects]


def named_by(
    found: list[Deployment], may_name: Callable[[Deployment], bool], *, now: float
) -> list[Deployment]:
    """Those that a key's lists of models hold, for lists may hold one revision of several. A deprecated revision is
    for who names it: one name for all leads there only from others. All, where none is to be: whoever admits refuses.
    """
    if len(found) < 2:
        return found
    named = [each for each in found if may_name(each)]
    lasting = [each for each in found if not _is_deprecated(each, now)] or found
    return named if any(each in lasting for each in named) else found


def _is_deprecated(deployment: Deployment, now: float) -> bool:
    """One that will be is told of beforehand, and serves as before until then."""
    return deployment.deprecated_at is not None and deployment.deprecated_at <= now


def _score(deployment: Deployment, key: bytes) -> float:
    """Weighted rendezvous: the highest of several is this one's as often as its weight is of theirs."""
    if deployment.weight <= 0:
        return 0.0
    drawn = int.from_bytes(blake2b(deployment.id.encode(), key=key, digest_size=HASH_BYTES).digest())
    return deployment.weight / -math.log((drawn + 1) / (2 ** (8 * HASH_BYTES) + 1))
