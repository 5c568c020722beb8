"""The test clock over the API: what it says, and moving it ahead."""

from fastapi import APIRouter
from pydantic import AwareDatetime
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.bodies import Body
from headrace_billing.callers import AdminOnly
from headrace_billing.clock import store
from headrace_billing.clock.movable import ClockNotMovable, MovableClock
from headrace_billing.intervals import utc
from headrace_billing.parts import Parts, PartsOf

router = APIRouter(tags=["test clock"], dependencies=[AdminOnly], route_class=Answering)


class ClockDocument(TypedDict):
    now: str
    ahead_seconds: float


class Advance(Body):
    to: AwareDatetime


@router.get("/v1/test-clock")
async def show_clock(parts: PartsOf) -> ClockDocument:
    clock = _clock(parts)
    await store.follow(parts.database, clock)
    return _document(clock)


@router.post("/v1/test-clock/advance")
async def advance_clock(body: Advance, parts: PartsOf) -> ClockDocument:
    """Moves the time of the whole installation. The worker and other processes follow within a second."""
    clock = _clock(parts)
    await store.move(parts.database, clock, utc(body.to))
    return _document(clock)


def _clock(parts: Parts) -> MovableClock:
    if not isinstance(parts.now, MovableClock):
        raise ClockNotMovable
    return parts.now


def _document(clock: MovableClock) -> ClockDocument:
    return {"now": clock().isoformat(), "ahead_seconds": clock.ahead.total_seconds()}
