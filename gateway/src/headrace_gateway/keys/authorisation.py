"""What a key may do, as rules over the records: no clock, no Valkey.

The caller refuses by these only with records it has just read: from a cached one they may be out of date
in the client's disfavour (a key extended, a task opened), while the other way round the admit script tells.
"""

from collections.abc import Iterable

from headrace_contracts.access import KeyRecord, KeyStatus, ProjectRecord, TaskRecord, TaskStatus
from headrace_contracts.usage import Disposition
from headrace_gateway.errors import KeyExpired, KeyRevoked, ModelNotAllowed, TaskNotOpen


def check_key(key: KeyRecord, project: ProjectRecord, *, now_us: int) -> None:
    if key.status is not KeyStatus.ACTIVE or project.status is not KeyStatus.ACTIVE:
        raise KeyRevoked("This API key has been revoked.")
    if key.expires_at_us is not None and key.expires_at_us <= now_us:
        raise KeyExpired("This API key has expired.")


def check_model(key: KeyRecord, project: ProjectRecord, *, names: Iterable[str], requested: str) -> None:
    """`names`: all by which the model is known; an allow-list may hold any of them."""
    allowed = models_allowed(key, project)
    if allowed is not None and allowed.isdisjoint(names):
        raise ModelNotAllowed(f"This API key may not use the model {requested!r}.")


def models_allowed(key: KeyRecord, project: ProjectRecord) -> frozenset[str] | None:
    """Both lists must agree; null means no restriction."""
    lists = [frozenset(models) for models in (key.models, project.models) if models is not None]
    return frozenset.intersection(*lists) if lists else None


def check_task(task: TaskRecord | None, project: ProjectRecord) -> None:
    # One answer for all three, so that nobody learns which tasks others have.
    if task is None or task.project != project.id or task.status is not TaskStatus.OPEN:
        raise TaskNotOpen("X-Task-Id names no open task of this project.")


def disposition(project: ProjectRecord, task: TaskRecord | None) -> Disposition:
    """Who pays. Work on a task is paid by its outcome, whatever the project pays by else."""
    return Disposition.OUTCOME_BUNDLED if task is not None else project.disposition
