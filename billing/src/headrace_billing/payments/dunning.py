"""Dunning: what is done, and when, about an invoice that nobody pays.

    running → paused → paid | stopped
    running → paid | stopped

Each step tells the customer and tries the organisation's card; the last one pauses its service until all that is
overdue is paid.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headrace_billing.ledger.notice import NoticeKind


class DunningState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"  # the schedule is through: the organisation gets no service
    PAID = "paid"
    STOPPED = "stopped"  # by somebody of the seller's: the invoice is paid, or given up, by other means


ENDED = frozenset({DunningState.PAID, DunningState.STOPPED})


@dataclass(frozen=True, slots=True)
class Step:
    after: timedelta
    """From the day on which the invoice is due."""
    notice: NoticeKind
    pauses: bool = False


SCHEDULE = (
    Step(timedelta(0), NoticeKind.INVOICE_DUE),
    Step(timedelta(days=3), NoticeKind.INVOICE_OVERDUE),
    Step(timedelta(days=7), NoticeKind.INVOICE_OVERDUE),
    Step(timedelta(days=14), NoticeKind.SERVICE_PAUSED, pauses=True),
)

# While it is paused: whoever pays by other means than Stripe is served again within a minute.
LOOK_EACH = timedelta(minutes=1)

# Declines that the same card repeats for good (https://docs.stripe.com/declines/codes): trying on costs the merchant.
HARD = frozenset(
    {
        "expired_card",
        "fraudulent",
        "incorrect_number",
        "invalid_account",
        "lost_card",
        "pickup_card",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "stop_payment_order",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dunning:
    invoice: str
    org: str
    due_at: datetime
    state: DunningState
    step: int
    """How many steps of the schedule are done."""
    next_at: datetime | None

    def next_step(self, now: datetime) -> Step | None:
        """The one that is to be done now. One at a time: an outage of ours makes nobody pause at once."""
        if self.step >= len(SCHEDULE) or now < self.due_at + SCHEDULE[self.step].after:
            return None
        return SCHEDULE[self.step]

    def after_step(self, now: datetime) -> datetime:
        """When the next one is. What was late is not made up for in haste."""
        done = self.step + 1
        if done >= len(SCHEDULE):
            return now + LOOK_EACH
        pause = SCHEDULE[done].after - SCHEDULE[self.step].after
        return max(self.due_at + SCHEDULE[done].after, now + pause / 2)


@dataclass(frozen=True, slots=True)
class LastTry:
    """The last payment of the invoice by a card that came to nothing."""

    card: str
    reason: str


def may_charge(card: str, last: LastTry | None) -> bool:
    return last is None or last.card != card or last.reason not in HARD
