"""Times that a caller asks about: half-open, of whole hours of UTC, and of bounded length."""

from datetime import UTC, datetime, timedelta

from headrace_billing.errors import BillingError

# A year and a day: reports compare a month with the same one of the year before.
SPAN_MAX = timedelta(days=367)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class IntervalInvalid(BillingError):
    """Not a time that can be asked about."""

    code = "interval_invalid"


def utc(at: datetime) -> datetime:
    """The same instant in UTC. Raises `IntervalInvalid` for one that no calendar could count from."""
    if not EARLIEST <= at < LATEST:
        raise IntervalInvalid(f"A time must lie between {EARLIEST.year} and {LATEST.year}.")
    return at.astimezone(UTC)


def interval(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Whole hours, of which `start` belongs to it and `end` does not. Raises `IntervalInvalid`."""
    since, until = utc(start), utc(end)
    if since >= until:
        raise IntervalInvalid("start must lie before end, which is exclusive.")
    if until - since > SPAN_MAX:
        raise IntervalInvalid(f"At most {SPAN_MAX.days} days may lie between start and end.")
    if any(at != at.replace(minute=0, second=0, microsecond=0) for at in (since, until)):
        raise IntervalInvalid("start and end must be whole hours of UTC: usage is kept by the hour.")
    return since, until
