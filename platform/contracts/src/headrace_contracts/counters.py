"""How limits count, for the gateways that do and for billing that fills an emptied Valkey: names, spans, weights.

A budget's or fixed window's counter is an integer at `channels.counter(...)` + `:` + when its span began (seconds of
the Unix epoch for budgets' days and months, milliseconds for windows; a total has no span). A sliding window's is
a hash, slice number → amount. A rate's is a bucket: `<level> <ms>`, its level in 1/60000 of its unit and when that was; a full
one is absent. Concurrency's is an integer. limits/scripts/prelude.lua computes the same spans and levels, and tests compare
the two.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from urllib.parse import quote

from headrace_contracts.access import ANY_MODEL, Limit, LimitKind, Window, WindowUnit

SLIDING_SLICES = 60
"""A sliding window forgets in steps of a sixtieth: exact enough for a plan, and a bound on its hash."""

NANOS = 1000
"""Weights are a thousandth of a counter's unit a token, so that sums stay whole numbers."""

# Ten million tokens at this weight are still an exact double.
WEIGHT_MAX = 10**8

# A bucket's level is its count times 60,000 and must stay below 2^53.
RATE_CEILING_MAX = 10**11

BUCKET_PARTS = 60_000
"""So that a ceiling a minute refills by whole numbers each millisecond."""

Weights = tuple[int, int, int]
"""Of an uncached, a cached and an output token."""


def name_of(limit: Limit) -> str:
    """Limits of one scope with the same name share a counter."""
    name = limit.kind.value
    if limit.window is not None:
        window = limit.window
        name += f"-{window.shape}-{window.seconds}-{window.unit}-{window.anchor_us}"
        name += "-plan" if limit.pays else ""
    return name if limit.model is None else f"{name}@{quote(limit.model, safe='')}"


def day_began(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def month_began(at: datetime) -> datetime:
    return day_began(at).replace(day=1)


def budget_began(kind: LimitKind, at: datetime) -> datetime | None:
    """Null for a total, which never begins anew."""
    if kind is LimitKind.SPEND_DAY:
        return day_began(at)
    return month_began(at) if kind is LimitKind.SPEND_MONTH else None


def budget_ends(kind: LimitKind, at: datetime) -> datetime | None:
    """When the day or month of `at` is over, and a total never."""
    began = budget_began(kind, at)
    # Longer than the span by less than the next one lasts.
    return began and budget_began(kind, began + timedelta(days=1 if kind is LimitKind.SPEND_DAY else 31))


def bucket_level(stored: str | None, *, ceiling: int, at_ms: int) -> int:
    """In 1/60000 of a request or token; below zero is debt."""
    full = ceiling * BUCKET_PARTS
    if stored is None or ceiling <= 0:
        return max(0, full)
    level, was_ms = map(int, stored.split(" "))
    return min(full, level + max(0, at_ms - was_ms) * ceiling)


def window_began_ms(window: Window, at_ms: int) -> int:
    """Of a fixed one."""
    size_ms, anchor_ms = window.seconds * 1000, window.anchor_us // 1000
    return anchor_ms + (at_ms - anchor_ms) // size_ms * size_ms


def slice_ms(window: Window) -> int:
    return -(-window.seconds * 1000 // SLIDING_SLICES)


def token_weights(window: Window, *, model: str, at: datetime) -> Weights:
    """What tokens weigh in a window, for a request admitted at an instant."""
    if window.unit is WindowUnit.REQUESTS:
        return (0, 0, 0)
    if window.unit is WindowUnit.TOKENS:
        return (NANOS, NANOS, NANOS)
    per_million = window.weights.get(model) or window.weights[ANY_MODEL]
    rate = Decimal(rate_at(window, at))
    weights = tuple(
        _nanos(Decimal(text) * rate) for text in (per_million.input, per_million.cached, per_million.output)
    )
    return (weights[0], weights[1], weights[2])


def rate_at(window: Window, at: datetime) -> str:
    for hours in window.rates:
        local = at.astimezone(UTC) + timedelta(minutes=hours.utc_offset_minutes)
        minute = local.hour * 60 + local.minute
        if local.weekday() in hours.weekdays and hours.begins_minute <= minute < hours.ends_minute:
            return hours.rate
    return window.rate


def amount(window: Window, weights: Weights, *, uncached: int, cached: int, output: int) -> int:
    """What one request adds to a window's counter."""
    if window.unit is WindowUnit.REQUESTS:
        return 1
    nanos = uncached * weights[0] + cached * weights[1] + output * weights[2]
    return -(-nanos // NANOS)


def _nanos(credits_per_million: Decimal) -> int:
    """Credits per 1,000,000 tokens are micro-credits a token."""
    weight = int((credits_per_million * NANOS).to_integral_value(ROUND_CEILING))
    assert 0 <= weight <= WEIGHT_MAX, credits_per_million
    return weight
