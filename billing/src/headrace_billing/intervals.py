"""Times that a caller asks about: half-open, of whole hours of UTC, and of bounded length."""

from datetime import UTC, datetime, timedelta

from headrace_billing.errors import BillingError

# A year and a day: reports compare a month with the same one of the year before.
SPAN_MAX = timedelta(days=367)


class IntervalInvalid(BillingError):
    """Not a time that can be asked about."""

    code = "interval_invalid"


def interval(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Whole hours, of which `start` belongs to it and `end` does not. Raises `IntervalInvalid`."""
    since, until = start.astimezone(UTC), end.astimezone(UTC)
    if since >= until:
        raise IntervalInvalid("start must lie before end, which is exclusive.")
    if until - since > SPAN_MAX:
        raise IntervalInvalid(f"At most {SPAN_MAX.days} days may lie between start and end.")
    if any(at != at.replace(minute=0, second=0, microsecond=0) for at in (since, until)):
        raise IntervalInvalid("start and end must be whole hours of UTC: usage is kept by the hour.")
    return since, until
