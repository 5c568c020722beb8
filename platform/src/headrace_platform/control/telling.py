"""Which changes of a deployment's state are told as events: those after which its owner may have something to do. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_platform.control.status import Condition, ConditionStatus, ConditionType

BAD_WHEN_FALSE = (
    ConditionType.ACCEPTED,
    ConditionType.SOURCE_READY,
    ConditionType.CAPACITY_AVAILABLE,
    ConditionType.SERVE_READY,
    ConditionType.ENDPOINT_READY,
)
# A start and an end have these in between; nobody has to do anything about them.
PASSING = frozenset({"NotMade", "Starting", "NotProven", "Suspended", "Draining"})


@dataclass(frozen=True, slots=True)
class Event:
    kind: str
    """`Normal` or `Warning`."""
    reason: str
    message: str


def events(before: Sequence[Condition], after: Sequence[Condition]) -> list[Event]:
    known = {condition.type: condition for condition in before}
    found = []
    for condition in after:
        old = known.get(condition.type)
        if old is not None and (old.status, old.reason) == (condition.status, condition.reason):
            continue
        event = _event(condition, is_new=old is None)
        if event is not None:
            found.append(event)
    return found


def _event(condition: Condition, *, is_new: bool) -> Event | None:
    is_true = condition.status is ConditionStatus.TRUE
    is_false = condition.status is ConditionStatus.FALSE
    if condition.type in BAD_WHEN_FALSE and is_false and condition.reason not in PASSING:
        return Event("Warning", condition.reason, condition.message or f"{condition.type} is false")
    if condition.type is ConditionType.DEGRADED and is_true:
        return Event("Warning", condition.reason, condition.message)
    if condition.type is ConditionType.UPGRADE_IN_PROGRESS and not is_new:
        return Event("Normal", condition.reason, condition.message or "the upgrade has ended")
    if condition.type is ConditionType.READY and is_true:
        return Event("Normal", "Ready", "the model answers and the gateway sends requests to it")
    return None
