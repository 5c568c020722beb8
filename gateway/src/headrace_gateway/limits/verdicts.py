"""What the scripts that admit and extend reply, read."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace_gateway.call import AlreadyAnswered, DeploymentFull, KeptAnswer
from headrace_gateway.errors import IdempotencyInProgress, IdempotencyKeyReused, Overloaded
from headrace_gateway.keys.directory import Versioned
from headrace_gateway.limits.plan import refusal
from headrace_gateway.limits.state import CheckedLimit, LimitState

_decode_answer = msgspec.msgpack.Decoder(KeptAnswer).decode


class Admitted(msgspec.Struct, frozen=True):
    id: str
    time_us: int
    states: tuple[LimitState, ...] = ()


class Stale(msgspec.Struct, frozen=True):
    hash_key: str


class Reaped(msgspec.Struct, frozen=True):
    """The lease was taken away: its gateway was silent for too long."""


class Short(msgspec.Struct, frozen=True):
    """A money limit has less room than the hold needs."""

    limit: CheckedLimit
    used: int
    ceiling: int
    room: int
    """At admission what may be held; at an extension the whole hold that the lease may have."""
    begins_anew_seconds: float | None = None
    """Null where waiting does not help."""
    states: tuple[LimitState, ...] = ()
    """Of the other limits, at admission alone."""


def verdict_of(
    reply: list[Any], records: Sequence[Versioned[Any]], limits: Sequence[CheckedLimit]
) -> Admitted | Stale | Short:
    word = reply[0]
    if word == b"admitted":
        return admission_of(reply, limits)
    if word == b"stale":
        return Stale(records[reply[1] - 1].hash_key)
    if word == b"overloaded":
        raise Overloaded("Too many usage events wait to be billed.")
    if word == b"full":
        raise DeploymentFull
    if word == b"running":
        raise IdempotencyInProgress
    if word == b"reused":
        raise IdempotencyKeyReused
    if word == b"repeated":
        raise AlreadyAnswered(_decode_answer(reply[1]))
    index, used, ceiling, wait_ms, told = reply[1:6]
    limit, wait = limits[index - 1], None if wait_ms < 0 else wait_ms / 1000
    states = _states(told, limits)
    if word == b"short":
        return Short(limit, used, ceiling, room=reply[6], begins_anew_seconds=wait, states=states)
    assert word == b"refused", word
    raise refusal(limit, used=used, ceiling=ceiling, weight=limit[3], retry_after_seconds=wait, states=states)


def admission_of(reply: list[Any], limits: Sequence[CheckedLimit]) -> Admitted:
    states = _states(reply[3], limits) if limits else ()
    return Admitted(id=reply[1].decode(), time_us=int(reply[2]), states=states)


def _states(told: list[int], limits: Sequence[CheckedLimit]) -> tuple[LimitState, ...]:
    return tuple(
        [
            LimitState(limits[index - 1], left, full_in_ms / 1000)
            for index, left, full_in_ms in zip(told[::3], told[1::3], told[2::3], strict=True)
        ]
    )
