"""How limits stand: what of each is used and when it is back, by the counters that gateways admit by.

Read from Valkey as it is, holds of what runs included, and so the same that a refusal would say at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from headrace_billing.errors import BillingError
from headrace_contracts import channels, counters
from headrace_contracts.access import BUDGETS, Limit, LimitKind, WindowShape

BUCKETS = frozenset(
    {
        LimitKind.REQUESTS_PER_MINUTE,
        LimitKind.TOKENS_PER_MINUTE,
        LimitKind.INPUT_TOKENS_PER_MINUTE,
        LimitKind.CACHED_TOKENS_PER_MINUTE,
        LimitKind.OUTPUT_TOKENS_PER_MINUTE,
    }
)


class LimitsRebuilding(BillingError):
    """Valkey was lost, and its counters are being filled."""

    code = "limits_rebuilding"

    def __init__(self) -> None:
        super().__init__("What is used is being read from the books; try again in a few seconds.")


class LimitsUnavailable(BillingError):
    """Valkey can't be reached."""

    code = "limits_unavailable"

    def __init__(self) -> None:
        super().__init__("The counters of limits can't be reached at this moment; try again.")


@dataclass(frozen=True, slots=True)
class Standing:
    limit: Limit
    used: int
    resets_at: datetime | None
    """When all of it is back. Null where that is already so, or not a matter of time."""

    @property
    def remaining(self) -> int:
        return max(0, self.limit.ceiling - self.used)


@dataclass(frozen=True, slots=True)
class Read:
    at: datetime
    standings: list[Standing]


async def standings(valkey: Redis, limits: Sequence[Limit], *, scope: str, subject: str) -> Read:
    """In the order of `limits`. Raises `LimitsRebuilding`, and `ValkeyError`."""
    seconds, micros = await valkey.time()
    at_ms = seconds * 1000 + micros // 1000
    async with valkey.pipeline() as pipeline:
        pipeline.exists(channels.EPOCH)
        for limit in limits:
            place = _place(limit, channels.counter(counters.name_of(limit), scope, subject), at_ms)
            if _slides(limit):
                pipeline.hgetall(place)
            else:
                pipeline.get(place)
        loaded, *found = await pipeline.execute()
    if not loaded:
        raise LimitsRebuilding
    return Read(
        _at(at_ms), [_standing(limit, counted, at_ms) for limit, counted in zip(limits, found, strict=True)]
    )


def _place(limit: Limit, counter: str, at_ms: int) -> str:
    if limit.kind in BUDGETS:
        began = counters.budget_began(limit.kind, _at(at_ms))
        return counter if began is None else f"{counter}:{int(began.timestamp())}"
    if limit.window is not None and not _slides(limit):
        return f"{counter}:{counters.window_began_ms(limit.window, at_ms)}"
    return counter


def _standing(limit: Limit, counted: Any, at_ms: int) -> Standing:
    if limit.kind in BUCKETS:
        return _of_bucket(limit, counted, at_ms)
    if _slides(limit):
        return _of_slices(limit, {int(slice_): int(amount) for slice_, amount in counted.items()}, at_ms)
    used = int(counted or 0)
    if limit.kind in BUDGETS:
        return Standing(limit, used, counters.budget_ends(limit.kind, _at(at_ms)))
    if limit.window is None:
        return Standing(limit, used, None)
    return Standing(
        limit, used, _at(counters.window_began_ms(limit.window, at_ms) + limit.window.seconds * 1000)
    )


def _of_bucket(limit: Limit, counted: bytes | None, at_ms: int) -> Standing:
    level = counters.bucket_level(
        None if counted is None else counted.decode(), ceiling=limit.ceiling, at_ms=at_ms
    )
    missing = limit.ceiling * counters.BUCKET_PARTS - level
    full_in_ms = -(-missing // max(1, limit.ceiling))
    return Standing(
        limit,
        limit.ceiling - level // counters.BUCKET_PARTS,
        _at(at_ms + full_in_ms) if missing > 0 else None,
    )


def _of_slices(limit: Limit, slices: dict[int, int], at_ms: int) -> Standing:
    assert limit.window is not None
    size_ms = counters.slice_ms(limit.window)
    oldest = at_ms // size_ms - counters.SLIDING_SLICES + 1
    standing = {number: amount for number, amount in slices.items() if number >= oldest and amount}
    back = (max(standing) + counters.SLIDING_SLICES) * size_ms if standing else None
    return Standing(limit, sum(standing.values()), None if back is None else _at(back))


def _slides(limit: Limit) -> bool:
    return limit.window is not None and limit.window.shape is WindowShape.SLIDING


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
