"""The time of a test installation: the real one, and what somebody has moved it ahead.

All that billing does by the clock goes by it: periods, runs, expiry, prices that come into force, windows of outcomes.
Gateways and engines keep the real time. It never stands still and never goes back, and the real books have none: where
an invoice was issued before the clock was ever moved, it can't be moved at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from headrace_billing.errors import BillingError

ADVANCE_DAYS_MAX = 400
"""In one step; further than a year and a month nobody looks ahead at once."""


class ClockNotMovable(BillingError):
    """The installation keeps the real time."""

    code = "test_clock_off"

    def __init__(self) -> None:
        super().__init__(
            "Only an installation that was started with HEADRACE_BILLING_TEST_CLOCK has a test clock."
        )


class ClockTimeInvalid(BillingError):
    """A time that the clock can't be moved to."""

    code = "test_clock_invalid"


class BooksInUse(BillingError):
    """Invoices were issued in real time; these are no books to play with."""

    code = "books_in_use"

    def __init__(self) -> None:
        super().__init__(
            "These books hold invoices that were issued in real time. Use an installation of its own."
        )


def _real() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class MovableClock:
    """Each process has one, and asks the database from time to time how far it is."""

    real: Callable[[], datetime] = field(default=_real)
    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return self.real() + self.ahead


def ahead_of(to: datetime, *, real: datetime, ahead: timedelta) -> timedelta:
    """How far it is ahead once it is `to`. Raises `ClockTimeInvalid`."""
    now = real + ahead
    if to < now:
        raise ClockTimeInvalid(f"The clock is at {now.isoformat()} and does not go back.")
    if to - now > timedelta(days=ADVANCE_DAYS_MAX):
        raise ClockTimeInvalid(f"The clock goes at most {ADVANCE_DAYS_MAX} days ahead in one step.")
    return to - real
