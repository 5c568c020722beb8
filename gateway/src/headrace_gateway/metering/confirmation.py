"""Waiting until all that a settlement needs is done, but not for long.

A request waits on one future: a task of its own and a future for each part would cost more than the parts do.
"""

import asyncio


class Confirmation:
    """Done when so many parts are, or `timeout_seconds` later."""

    __slots__ = ("_missing", "_timer", "future")

    def __init__(self, *, parts: int, timeout_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = loop.create_future()
        self._missing = parts
        self._timer = loop.call_later(timeout_seconds, self._end)

    def part_done(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._timer.cancel()
            self._end()

    def _end(self) -> None:
        # Who waited may have been cancelled.
        if not self.future.done():
            self.future.set_result(None)


def confirmed() -> asyncio.Future[None]:
    """Nothing is left to wait for."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
