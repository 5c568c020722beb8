"""What a commitment comes to: what a period leaves, what is used beyond it, and what is missing. In nano-units.

Nothing is lost on the way: what was committed is used, left, rolled over or broken, to the nano-unit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from headrace_billing.contracts.term import Term
from headrace_billing.contracts.terms import MILLION, Commitment, Funding, Rollover
from headrace_billing.invoicing.amounts import divided_half_away


@dataclass(frozen=True, slots=True)
class Rest:
    """What becomes of what a period did not use."""

    rolled_nanos: int
    broken_nanos: int


def rest_of(left_nanos: int, rollover: Rollover | None) -> Rest:
    """What rolls over is rounded up: half a nano-unit is the customer's."""
    assert left_nanos >= 0, left_nanos
    if rollover is None:
        return Rest(0, left_nanos)
    rolled = -(-left_nanos * rollover.share_millionths // MILLION)
    if rollover.cap_nanos is not None:
        rolled = min(rolled, rollover.cap_nanos)
    return Rest(rolled, left_nanos - rolled)


def true_up_nanos(*, committed_nanos: int, used_nanos: int) -> int:
    """What is missing of a postpaid commitment."""
    return max(committed_nanos - used_nanos, 0)


def surcharge_nanos(overage_nanos: int, commitment: Commitment) -> int:
    """What usage beyond the commitment costs more (or less) than its price; rounded once, half away from zero."""
    return divided_half_away(overage_nanos * (commitment.overage_millionths - MILLION), MILLION)


@dataclass(frozen=True, slots=True)
class Used:
    """Of one month, at the prices that it was admitted by."""

    drawn_nanos: int = 0
    """From a prepaid commitment."""
    afterwards_nanos: int = 0
    """Paid afterwards: beyond a prepaid commitment, or what counts against a postpaid one."""

    @property
    def total_nanos(self) -> int:
        return self.drawn_nanos + self.afterwards_nanos


NOTHING_USED = Used()


def overage_by_month(
    used: Mapping[date, Used], *, term: Term, commitments: Mapping[int, Commitment], months: Iterable[date]
) -> dict[date, int]:
    """Of each month, what was used beyond its period's commitment, given `commitments` by period.

    Usage of a postpaid commitment counts from the period's first month on, so that the months of a period add up to
    what all of it is beyond the commitment, whatever came late.
    """
    found: dict[date, int] = {}
    for index, of_period in groupby(months, key=term.period_of):
        commitment = commitments.get(index)
        before = 0
        for month in of_period:
            nanos = used.get(month, NOTHING_USED).afterwards_nanos
            if commitment is None:
                found[month] = 0
            elif commitment.funding is Funding.PREPAID:
                found[month] = nanos
            else:
                committed = commitment.amount_nanos(index)
                found[month] = max(before + nanos - committed, 0) - max(before - committed, 0)
            before += nanos
    return found


def minimum_nanos(*, minimum_nanos: int | None, spent_nanos: int) -> int:
    """What a month is short of its minimum."""
    return 0 if minimum_nanos is None else max(minimum_nanos - spent_nanos, 0)
