"""What a subscription is charged, and what it is given back: whole periods, and what is left of one."""

from collections.abc import Iterable
from datetime import datetime

from headrace_billing.invoicing.usage import Span
from headrace_billing.plans.plan import Item
from headrace_billing.plans.proration import left
from headrace_billing.plans.subscription import Line


def charge(items: Iterable[Item], period: Span, *, since: datetime | None = None) -> tuple[Line, ...]:
    """For the period from `since` on; null means all of it."""
    return _lines(items, period, since or period.start, sign=1)


def give_back(items: Iterable[Item], period: Span, *, since: datetime) -> tuple[Line, ...]:
    """What is left of a period that was charged: to the minor unit what the charge for the same rest would be."""
    return _lines(items, period, since, sign=-1)


def exchange(
    before: Iterable[Item], after: Iterable[Item], period: Span, *, since: datetime
) -> tuple[Line, ...]:
    """The rest of the old and the rest of the new; what costs the same as before is left alone."""
    old, new = {item.code: item for item in before}, {item.code: item for item in after}
    same = {code for code, item in old.items() if code in new and new[code].amount_minor == item.amount_minor}
    return (
        *give_back([item for code, item in old.items() if code not in same], period, since=since),
        *charge([item for code, item in new.items() if code not in same], period, since=since),
    )


def _lines(items: Iterable[Item], period: Span, since: datetime, *, sign: int) -> tuple[Line, ...]:
    if since >= period.end:
        return ()
    span, whole = Span(since, period.end), sign > 0 and since == period.start
    found = (
        Line(
            item.code,
            item.label,
            item.quantity,
            sign * left(item.amount_minor, period, since),
            span,
            item.unit_minor if whole else None,
        )
        for item in items
    )
    return tuple(line for line in found if line.amount_minor)
