"""What a key may do, as rules over the records: no clock, no Valkey.

The caller refuses by these only with records it has just read: from a cached one they may be out of date
in the client's disfavour (a key extended, a task opened), while the other way round the admit script tells.
"""

from collections.abc import Callable, Sequence

import msgspec

from headrace_contracts import networks
from headrace_contracts.access import (
    KeyRecord,
    KeyScope,
    KeyStatus,
    Priority,
    ProjectRecord,
    TaskRecord,
    TaskStatus,
)
from headrace_contracts.deployments import Deployment
from headrace_contracts.networks import Address
from headrace_contracts.usage import Disposition
from headrace_gateway.call import Credentials
from headrace_gateway.errors import (
    IpNotAllowed,
    KeyExpired,
    KeyRevoked,
    ModelNotAllowed,
    ModelNotFound,
    ScopeMissing,
    ServicePaused,
    TaskNotOpen,
    Unauthenticated,
)

KEY_ENDED = (KeyRevoked, KeyExpired, Unauthenticated)
"""What a request that runs must end with, when its key is looked at again."""

RANKS = {Priority.INTERACTIVE: 0, Priority.BATCH: 1}


def check_caller(
    key: KeyRecord, project: ProjectRecord, credentials: Credentials, scope: KeyScope, *, now_us: int
) -> None:
    check_key(key, project, now_us=now_us)
    if not credentials.batched:
        check_address(key, project, credentials.address)
    check_scope(key, scope)


def check_key(key: KeyRecord, project: ProjectRecord, *, now_us: int) -> None:
    if key.status is not KeyStatus.ACTIVE or project.status is not KeyStatus.ACTIVE:
        raise KeyRevoked("This API key has been revoked.")
    if key.expires_at_us is not None and key.expires_at_us <= now_us:
        raise KeyExpired("This API key has expired.")


def check_paused(project: ProjectRecord) -> None:
    if project.paused:
        raise ServicePaused("Invoices are overdue: requests are taken again as soon as they are paid.")


def check_address(key: KeyRecord, project: ProjectRecord, address: Callable[[], Address | None]) -> None:
    """Every list that there is must hold the address."""
    if key.allowed_cidrs is None and project.allowed_cidrs is None:
        return
    spoken_from = address()
    for cidrs in (key.allowed_cidrs, project.allowed_cidrs):
        if cidrs is not None and not networks.hold(cidrs, spoken_from):
            raise IpNotAllowed(spoken_from)


def check_scope(key: KeyRecord, scope: KeyScope) -> None:
    if key.scopes is not None and scope not in key.scopes:
        raise ScopeMissing(scope)


def check_model(
    key: KeyRecord, project: ProjectRecord, deployment: Deployment, *, requested: str, instead: bool = False
) -> None:
    """`instead`: it is another model's, to answer in the place of the one requested."""
    if deployment.tenant not in (None, project.org):
        raise ModelNotFound(requested)
    if instead and frozenset(fallback_models(key, project)).isdisjoint(deployment.names):
        raise ModelNotFound(requested)
    if not may_name(key, project, deployment):
        raise ModelNotAllowed(f"This API key may not use the model {requested!r}.")


def may_name(key: KeyRecord, project: ProjectRecord, deployment: Deployment) -> bool:
    """Every list that there is must hold one of its names; that of a revision allows no other."""
    return all(
        not frozenset(allowed).isdisjoint(deployment.names)
        for allowed in (key.models, project.models, project.org_models, project.plan_models)
        if allowed is not None
    )


def fallback_models(key: KeyRecord, project: ProjectRecord) -> Sequence[str]:
    return project.fallback_models if key.fallback_models is None else key.fallback_models


class KnownCaller(msgspec.Struct, frozen=True):
    """Implements `call.Caller`."""

    key: KeyRecord
    project: ProjectRecord
    batched: bool = False

    @property
    def org(self) -> str:
        return self.project.org

    @property
    def rank(self) -> int:
        return RANKS[Priority.BATCH if self.batched else self.key.priority]

    @property
    def weight(self) -> int:
        return self.project.org_weight

    @property
    def fallback_models(self) -> Sequence[str]:
        return fallback_models(self.key, self.project)

    @property
    def project_id(self) -> str:
        return self.project.id

    def may_name(self, deployment: Deployment) -> bool:
        return may_name(self.key, self.project, deployment)


def check_task(task: TaskRecord | None, project: ProjectRecord) -> None:
    # One answer for all three, so that nobody learns which tasks others have.
    if task is None or task.project != project.id or task.status is not TaskStatus.OPEN:
        raise TaskNotOpen("X-Task-Id names no open task of this project.")


def disposition(project: ProjectRecord, task: TaskRecord | None, *, used_up: bool = False) -> Disposition:
    """Who pays. Work on a task is paid by its outcome, whatever the project pays by else.

    `used_up`: nothing is left of the commitment that the project draws from, and its contract says that it goes on.
    """
    if task is not None:
        return Disposition.OUTCOME_BUNDLED
    return Disposition.PAYG if used_up else project.disposition
