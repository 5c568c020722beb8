"""Whether a month kept a service level, and what it credits. Exact: shares are compared as fractions, never rounded.

Where something could not be measured the customer has the benefit, and the doubt is counted beside the figures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace_billing.contracts.terms import MILLION, ServiceLevel, Tier
from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.usage import Span

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
MINUTES_AN_HOUR = 60


@dataclass(frozen=True, slots=True)
class Minute:
    """Requests received in one minute; those of declared maintenance are not among them."""

    at: datetime
    counted: int
    good: int
    estimated: int = 0
    """Of those counted: nobody saw how they ended, so they are not good."""


@dataclass(frozen=True, slots=True)
class Attainment:
    """Good ones of those that count."""

    good: int
    counted: int
    doubts: int = 0
    """Not good because nothing was measured."""
    excluded: int = 0
    """Minutes of declared maintenance."""

    def below(self, millionths: int) -> bool:
        return self.good * MILLION < millionths * self.counted

    @property
    def millionths(self) -> int:
        """For people to read; rounded down."""
        return MILLION if not self.counted else self.good * MILLION // self.counted


def of_requests(minutes: Iterable[Minute], *, excluded: int) -> Attainment:
    every = list(minutes)
    return Attainment(
        good=sum(minute.good for minute in every),
        counted=sum(minute.counted for minute in every),
        doubts=sum(minute.estimated for minute in every),
        excluded=excluded,
    )


def of_minutes(
    minutes: Iterable[Minute], *, span: Span, seen: frozenset[datetime], maintenance: Sequence[Span]
) -> Attainment:
    """A minute is down if all of its requests failed; an hour of which there is neither a request nor a measured pod
    is in doubt, and counts as down. `seen` has the hours in which a pod was measured.
    """
    by_hour: dict[datetime, list[Minute]] = {}
    for minute in minutes:
        by_hour.setdefault(minute.at.replace(minute=0), []).append(minute)
    good = counted = doubts = excluded = 0
    hour = span.start
    while hour < span.end:
        planned = sum(
            any(window.start <= at < window.end for window in maintenance)
            for at in (hour + count * MINUTE for count in range(MINUTES_AN_HOUR))
        )
        excluded += planned
        counted += MINUTES_AN_HOUR - planned
        of_hour = by_hour.get(hour, [])
        if hour not in seen and not of_hour:
            doubts += MINUTES_AN_HOUR - planned
        else:
            down = sum(1 for minute in of_hour if minute.counted and not minute.good)
            good += MINUTES_AN_HOUR - planned - down
        hour += HOUR
    return Attainment(good=good, counted=counted, doubts=doubts, excluded=excluded)


def tier_of(level: ServiceLevel, attainment: Attainment) -> Tier | None:
    """The worst breach; null where the level was kept, and where nothing counted."""
    breached = [
        tier for tier in level.tiers if attainment.counted and attainment.below(tier.below_millionths)
    ]
    return breached[-1] if breached else None


def credit_nanos(tier: Tier | None, *, fee_nanos: int, room_nanos: int) -> int:
    """`room_nanos` is what the cap on a month's credits still lets through."""
    if tier is None:
        return 0
    return max(min(divided_half_away(fee_nanos * tier.credit_millionths, MILLION), room_nanos), 0)
