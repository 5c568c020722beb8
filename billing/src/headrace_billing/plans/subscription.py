"""A subscription: what somebody is charged ahead for, period by period, and may do meanwhile.

    scheduled → trialing → active ⇄ past_due
    scheduled → active → paused → active
    and from each of them → cancelled, for good

`past_due` is an active one whose organisation gets no service because its invoices are overdue.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.usage import Span
from headrace_billing.plans.plan import Terms


class State(StrEnum):
    SCHEDULED = "scheduled"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    PAUSED = "paused"
    CANCELLED = "cancelled"


SERVED = frozenset({State.TRIALING, State.ACTIVE, State.PAST_DUE})
"""Whose plan is in force; where the organisation is past due no request passes all the same."""
CHARGED = frozenset({State.ACTIVE, State.PAST_DUE})
"""Whose period was charged, so that what is left of it can be given back."""


class Event(StrEnum):
    """What became of a subscription; `subscription.` before it is the type of the webhook."""

    CREATED = "created"
    STARTED = "started"
    RENEWED = "renewed"
    CHANGED = "changed"
    PLANNED = "change_scheduled"
    UNDONE = "change_undone"
    PAUSED = "paused"
    RESUMED = "resumed"
    PAST_DUE = "past_due"
    RECOVERED = "recovered"
    CANCELLED = "cancelled"


class Turn(StrEnum):
    """What may be planned for the end of a period."""

    CHANGE = "change"
    PAUSE = "pause"
    CANCEL = "cancel"


class When(StrEnum):
    NOW = "now"
    PERIOD_END = "period_end"


class SubscriptionState(BillingError):
    """The subscription is not in a state in which that can be done."""

    code = "subscription_state"

    def __init__(self, subscription: str, state: State, what: str) -> None:
        super().__init__(f"{subscription} is {state}: it can't be {what}.")


class NothingScheduled(BillingError):
    """There is nothing to undo."""

    code = "nothing_scheduled"

    def __init__(self, subscription: str) -> None:
        super().__init__(f"{subscription} has no change planned for the end of its period.")


class PlanChangeInvalid(BillingError):
    """Not a change of this subscription."""

    code = "plan_change_invalid"


class InvoicesOverdue(BillingError):
    """While the organisation gets no service, nothing is charged ahead for it."""

    code = "invoices_overdue"

    def __init__(self, org: str) -> None:
        super().__init__(f"{org} has invoices that are overdue: pay them first.")


@dataclass(frozen=True, slots=True)
class Planned:
    """For the end of the period."""

    turn: Turn
    terms: Terms | None = None
    """What it changes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    id: str
    org: str
    project: str | None
    """Whom the plan serves; null means all of the organisation's projects that have no plan of their own."""
    wallet: str | None
    """What the plan's credit fills."""
    terms: Terms
    state: State
    starts_at: datetime
    anchor: datetime
    number: int
    """Of the period, counted from the anchor."""
    period: Span | None
    """The present one; null where none runs. A trial is one that costs nothing."""
    planned: Planned | None = None
    version: int = 1
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def currency(self) -> str:
        return self.terms.plan.currency


ONCE = "once."
"""What the items begin with that are charged once and not each period."""


@dataclass(frozen=True, slots=True)
class Line:
    """A charge, or with a negative amount what is given back of one."""

    item: str
    label: str
    quantity: int
    amount_minor: int
    span: Span
    """The service that it is for."""
    unit_minor: int | None = None
    """Null where quantity times price is not the amount, because it is for a part of a period."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a subscription and all that follows from it."""

    after: Subscription
    event: Event
    at: datetime
    """When it is in force, which a late job makes no later."""
    lines: tuple[Line, ...] = ()
    credit_until: datetime | None = None
    """The end of the period that the plan's credit is given for."""

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)
