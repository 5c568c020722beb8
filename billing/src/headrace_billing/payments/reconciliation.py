"""Our books against Stripe's: every balance transaction of a payment is in both, and moved the same.

What Stripe books that is no customer's payment (payouts to the bank, its own fees) is summed by its kind and shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

# Stripe's types of balance transactions that a customer's payment makes
# (https://docs.stripe.com/reports/balance-transaction-types).
OURS = frozenset(
    {
        "charge",
        "payment",
        "refund",
        "payment_refund",
        "refund_failure",
        "payment_failure_refund",
        "adjustment",
    }
)

GRACE = timedelta(hours=2)
"""Longer than the slowest look at something that waits; younger ones may be on their way."""


class Reason(StrEnum):
    UNBOOKED = "unbooked"  # Stripe moved money, and our books don't know of it
    UNKNOWN_TO_STRIPE = "unknown_to_stripe"  # our books moved money, and Stripe does not know of it
    AMOUNT_DIFFERS = "amount_differs"


@dataclass(frozen=True, slots=True)
class Booked:
    """A balance transaction as Stripe has it."""

    id: str
    kind: str
    amount_minor: int
    fee_minor: int
    currency: str
    payment: str | None
    booked_at: datetime


@dataclass(frozen=True, slots=True)
class Posted:
    """The same as our books have it: `moved` is the customer's side."""

    id: str
    org: str
    amount_minor: int
    fee_minor: int
    currency: str
    moved_minor: int
    moved_currency: str
    posted_at: datetime

    def fits(self, booked: Booked) -> bool:
        as_told = (self.amount_minor, self.fee_minor, self.currency)
        same_currency = self.currency == self.moved_currency
        return as_told == (booked.amount_minor, booked.fee_minor, booked.currency) and (
            not same_currency or self.moved_minor == self.amount_minor
        )


@dataclass(frozen=True, slots=True)
class Difference:
    id: str
    """The balance transaction's."""
    reason: Reason
    payment: str | None
    org: str | None
    amount_minor: int
    currency: str
    booked_at: datetime


@dataclass(slots=True)
class Comparison:
    matched: int = 0
    pending: int = 0
    returned: int = 0
    """Pairs that our books never knew and that add up to nothing: a payment in doubt that was paid back at Stripe."""
    others: dict[tuple[str, str], int] = field(default_factory=dict)
    """(kind, currency) → minor units, of what is no customer's payment."""
    differences: list[Difference] = field(default_factory=list)


def compare(booked: Sequence[Booked], posted: Mapping[str, Posted], *, now: datetime) -> Comparison:
    found = Comparison()
    unbooked = []
    for one in booked:
        ours = posted.get(one.id)
        if ours is None and one.kind not in OURS:
            place = one.kind, one.currency
            found.others[place] = found.others.get(place, 0) + one.amount_minor - one.fee_minor
        elif ours is None:
            unbooked.append(one)
        elif ours.fits(one):
            found.matched += 1
        else:
            found.differences.append(_difference(one, Reason.AMOUNT_DIFFERS, org=ours.org))
    returned = {
        payment for payment, minor in _by_payment(unbooked).items() if payment is not None and not minor
    }
    for one in unbooked:
        if one.payment in returned:
            found.returned += 1
        elif now - one.booked_at < GRACE:
            found.pending += 1
        else:
            found.differences.append(_difference(one, Reason.UNBOOKED, org=None))
    return found


def missing(ours: Posted) -> Difference:
    """What Stripe was asked for by its id, and does not have."""
    return Difference(
        id=ours.id,
        reason=Reason.UNKNOWN_TO_STRIPE,
        payment=None,
        org=ours.org,
        amount_minor=ours.amount_minor,
        currency=ours.currency,
        booked_at=ours.posted_at,
    )


def _difference(one: Booked, reason: Reason, *, org: str | None) -> Difference:
    return Difference(one.id, reason, one.payment, org, one.amount_minor, one.currency, one.booked_at)


def _by_payment(booked: Iterable[Booked]) -> dict[str | None, int]:
    sums: dict[str | None, int] = {}
    for one in booked:
        sums[one.payment] = sums.get(one.payment, 0) + one.amount_minor
    return sums
