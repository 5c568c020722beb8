"""Waiting until all that a settlement needs is done, but not for long.

A request waits on one future: a task of its own and a future for each part would cost more than the parts do. All wait
equally long, so one timer, set for the one that has waited longest, does for all.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Confirmation:
    """Done when so many parts are; `then` is called when they all are, however long that takes."""

    __slots__ = ("_missing", "_then", "future", "until")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, parts: int, then: Callable[[], None], until: float
    ) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.until = until
        self._missing = parts
        self._then = then

    @property
    def missing(self) -> int:
        return self._missing

    def part_done(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._then()
            self.end()

    def end(self) -> None:
        # Who waited may have been cancelled.
        if not self.future.done():
            self.future.set_result(None)


class Confirmations:
    """Those of one process; each ends after `timeout_seconds` at the latest."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[Confirmation] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, *, parts: int, then: Callable[[], None]) -> Confirmation:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout_seconds
        confirmation = Confirmation(loop, parts=parts, then=then, until=until)
        waiting = self._waiting
        # What is done need not stand here until its time; the oldest nearly always are.
        while waiting and waiting[0].future.done():
            waiting.popleft()
        waiting.append(confirmation)
        if self._timer is None:
            self._timer = loop.call_at(confirmation.until, self._look, loop)
        return confirmation

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waiting = loop.time(), self._waiting
        while waiting and (waiting[0].future.done() or waiting[0].until <= now):
            waiting.popleft().end()
        self._timer = loop.call_at(waiting[0].until, self._look, loop) if waiting else None


def confirmed() -> asyncio.Future[None]:
    """Nothing is left to wait for."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
