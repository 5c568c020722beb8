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
    deployments: Sequence[Deployment], *, org: str, project: str, affinity: Callable[[], bytes | None]
) -> list[Deployment]:
    """Best first: an organisation's own before those of all, a project's own before others.

    `affinity` names what should stay together; it is asked for only where there is a choice.
    """
    open_to = [each for each in deployments if not each.projects or project in each.projects]
    if len(open_to) < 2:
        return open_to
    # Whose sessions they are is part of the hash, so that no organisation chooses for another.
    key = blake2b(org.encode(), digest_size=HASH_BYTES)
    key.update(b"\0" + (affinity() or os.urandom(HASH_BYTES)))
    return sorted(
        open_to,
        key=lambda each: (each.tenant is None, not each.projects, -_score(each, key.digest())),
    )


def _score(deployment: Deployment, key: bytes) -> float:
    """Weighted rendezvous: the highest of several is this one's as often as its weight is of theirs."""
    if deployment.weight <= 0:
        return 0.0
    drawn = int.from_bytes(blake2b(deployment.id.encode(), key=key, digest_size=HASH_BYTES).digest())
    return deployment.weight / -math.log((drawn + 1) / (2 ** (8 * HASH_BYTES) + 1))
