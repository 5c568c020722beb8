"""A task: one outside object for which one outcome may be billed, and until then its price stands reserved."""

from dataclasses import dataclass
from datetime import datetime

from headrace_billing.errors import BillingError
from headrace_billing.money import NANOS_PER_MICRO
from headrace_contracts.access import TaskRecord, TaskStatus

DEDUPE_KEY_CHARACTERS_MAX = 512


class TaskAlreadyOpen(BillingError):
    """Another task is open for the same outcome type and outside object."""

    code = "task_already_open"

    def __init__(self, task: str) -> None:
        super().__init__(f"{task} is open for this dedupe_key already.")
        self.task = task


class TaskClosed(BillingError):
    """The task takes no more reports: it is closed, or the window for evidence is over."""

    code = "task_closed"

    def __init__(self, task: str) -> None:
        super().__init__(f"{task} is closed.")


class OutcomeAlreadyReported(BillingError):
    """The task has an outcome that is undecided or billed."""

    code = "outcome_already_reported"

    def __init__(self, task: str) -> None:
        super().__init__(f"{task} has an outcome already.")


class OutcomeAlreadyBilled(BillingError):
    """An outcome for the same outside object was accepted before; a second one is never billed."""

    code = "outcome_already_billed"

    def __init__(self, dedupe_key: str) -> None:
        super().__init__(f"An outcome for {dedupe_key!r} has been accepted before.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    id: str
    org: str
    project: str
    wallet: str
    outcome_type: str
    outcome_name: str
    dedupe_key: str
    status: TaskStatus
    reserved: bool
    """Whether its price was taken from the wallet; a project that pays afterwards reserves nothing."""
    cost_guard_micros: int
    opened_at: datetime
    evidence_due_at: datetime
    closed_at: datetime | None = None

    def record(self) -> TaskRecord:
        return TaskRecord(
            id=self.id, project=self.project, status=self.status, cost_guard_micros=self.cost_guard_micros
        )


def cost_guard_micros(guard_nanos: int | None, *, price_nanos: int) -> int:
    """By default a task may use tokens worth as much as its outcome brings. Never zero: that would be no task."""
    return max(1, (price_nanos if guard_nanos is None else guard_nanos) // NANOS_PER_MICRO)
