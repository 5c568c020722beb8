"""What a gateway answers to a batch's request, and what follows from it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

TRIES_MAX = 8
"""Of a request that fails for a reason of ours; what only waits for room is asked as long as its batch stands."""

PAUSE_SECONDS_FIRST = 2.0
PAUSE_SECONDS_MAX = 120.0

ROOM_SECONDS = 1.0
"""Before a batch is tried again that found no room, where nobody says for how long there is none."""
ROOM_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """With a body that is JSON on one line."""

    status: int
    body: bytes
    request: str | None = None
    retry_after_seconds: float | None = None


class Silence(StrEnum):
    """No answer came."""

    UNREACHED = "unreached"
    """And nothing was sent."""
    BROKEN = "broken"
    """Whether it runs, or ran, is not known until the gateway is asked again."""


class Verdict(StrEnum):
    ANSWERED = "answered"
    FAILED = "failed"
    """It will not be otherwise."""
    NO_ROOM = "no_room"
    """Nobody's fault: to be asked again, however often."""
    AGAIN = "again"


# Others are served first, the first try still runs, or a limit of the key's fills up again.
IN_PROGRESS = 409
NO_ROOM = frozenset((IN_PROGRESS, 429, 503))


def verdict_of(reply: Reply | Silence, *, tries: int) -> Verdict:
    """`tries`: those before this one that failed."""
    if reply is Silence.UNREACHED:
        return Verdict.NO_ROOM
    if isinstance(reply, Reply):
        if reply.status == 200:
            return Verdict.ANSWERED
        if reply.status in NO_ROOM:
            return Verdict.NO_ROOM
        if reply.status < 500 and reply.status != 408:
            return Verdict.FAILED
    return Verdict.AGAIN if tries + 1 < TRIES_MAX else Verdict.FAILED


def doubt_after(
    reply: Reply | Silence, *, before: datetime | None, sent_at: datetime, now: datetime
) -> datetime | None:
    """Since when the request may have been answered without our knowing. `before`: the same before it was sent this time.

    A refusal tells nothing of an earlier time: a gateway that has no room does not look whether it answered before.
    """
    if isinstance(reply, Reply):
        return now if reply.status == IN_PROGRESS else before
    return before or sent_at if reply is Silence.BROKEN else before


def pause(tries: int) -> timedelta:
    """Before a request is sent again that failed so often before."""
    return timedelta(seconds=min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_FIRST * 2.0 ** min(tries, 10)))


def pause_for_room(reply: Reply | Silence) -> timedelta:
    asked = reply.retry_after_seconds if isinstance(reply, Reply) else None
    return timedelta(seconds=min(ROOM_SECONDS_MAX, max(ROOM_SECONDS, asked or 0.0)))


def on_one_line(body: bytes) -> bytes | None:
    """Null for what is no JSON."""
    try:
        return msgspec.json.format(body, indent=-1)
    except msgspec.MsgspecError:
        return None
