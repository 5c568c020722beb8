"""Billing periods: they follow each other from one anchor by the calendar of UTC, half-open and without gaps.

A month that lacks the anchor's day ends on its last one, and the next month that has it is back there: from 31 January
on, periods begin on 28 (or 29) February, 31 March, 30 April. Each is counted from the anchor and not from the one
before, so that a short month moves no later one.
"""

from calendar import monthrange
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from headrace_billing.invoicing.usage import Span


class Interval(StrEnum):
    MONTH = "month"
    YEAR = "year"


MONTHS: Mapping[Interval, int] = {Interval.MONTH: 1, Interval.YEAR: 12}
MONTHS_OF_YEAR = 12


def period(anchor: datetime, interval: Interval, number: int) -> Span:
    """The one with that number, from 0."""
    return Span(begins(anchor, interval, number), begins(anchor, interval, number + 1))


def begins(anchor: datetime, interval: Interval, number: int) -> datetime:
    months = anchor.month - 1 + number * MONTHS[interval]
    year, month = anchor.year + months // MONTHS_OF_YEAR, months % MONTHS_OF_YEAR + 1
    return anchor.replace(year=year, month=month, day=min(anchor.day, monthrange(year, month)[1]))


def whole_second(at: datetime) -> datetime:
    """What a subscription counts in: seconds that have begun."""
    return at.replace(microsecond=0)
