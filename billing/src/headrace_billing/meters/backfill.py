"""How late usage may come, and who may let it come later.

Usage of the last 35 days is taken as it comes; what belongs to a period that is invoiced already becomes an
adjustment on the next invoice. Older usage needs a backfill that two people have agreed to. What is older than any
backfill reaches is refused for good: so far back ids need not be remembered, and none can be counted twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace_billing.errors import BillingError
from headrace_billing.meters.reading import ItemCode, Refused

LATE_WINDOW = timedelta(days=35)
BACKFILL_HORIZON = timedelta(days=365)
REMEMBERED = LATE_WINDOW + BACKFILL_HORIZON
"""How long ids are remembered at least: for as long as usage of that age can be taken at all."""
# Clocks need not agree to the second.
CLOCK_SKEW = timedelta(minutes=5)
# Long enough to send and to mend; an agreement is not for ever.
BACKFILL_OPEN_MAX = timedelta(days=14)


class BackfillNeedsTwo(BillingError):
    """Who asks for a backfill can't approve it, too."""

    code = "backfill_needs_two"

    def __init__(self) -> None:
        super().__init__("requested_by and approved_by must be two people.")


class BackfillInvalid(BillingError):
    """Not a time that could be filled up."""

    code = "backfill_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    id: str
    meter: str
    start: datetime
    end: datetime
    """Exclusive."""
    reason: str
    requested_by: str
    approved_by: str
    opened_at: datetime
    closes_at: datetime

    def lets_in(self, at: datetime, *, now: datetime) -> bool:
        return self.start <= at < self.end and now < self.closes_at


def check(backfill: Backfill) -> None:
    """Raises `BackfillNeedsTwo` and `BackfillInvalid`."""
    if backfill.requested_by.casefold() == backfill.approved_by.casefold():
        raise BackfillNeedsTwo
    if backfill.start >= backfill.end:
        raise BackfillInvalid("start: must be before end.")
    if backfill.start < backfill.opened_at - REMEMBERED:
        raise BackfillInvalid(f"start: nothing older than {REMEMBERED.days} days can be taken any more.")
    if not backfill.opened_at < backfill.closes_at <= backfill.opened_at + BACKFILL_OPEN_MAX:
        raise BackfillInvalid(f"closes_at: in the future, and within {BACKFILL_OPEN_MAX.days} days.")


def too_late(at: datetime, backfills: Iterable[Backfill], *, now: datetime) -> Refused | None:
    """Why usage of that time is not taken, if it has not been taken before."""
    if at >= now - LATE_WINDOW or any(backfill.lets_in(at, now=now) for backfill in backfills):
        return None
    return Refused(
        ItemCode.TOO_LATE,
        f"time: older than {LATE_WINDOW.days} days; the seller can open a backfill for it, see POST /v1/backfills.",
    )


def out_of_time(at: datetime, *, now: datetime) -> Refused | None:
    """Why usage of that time is not even looked up."""
    if at > now + CLOCK_SKEW:
        return Refused(ItemCode.TIME_IN_THE_FUTURE, "time: lies in the future; look at the meter's clock.")
    if at < now - REMEMBERED:
        return Refused(ItemCode.TOO_OLD, f"time: older than {REMEMBERED.days} days, which is never taken.")
    return None
