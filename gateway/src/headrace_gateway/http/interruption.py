"""What may end a request from outside while it waits for something: told to the waiting task as a cancellation.

What must stay true: inside the block nothing has to look out for it; outside of it nothing is ever cancelled, so
that settling a request is safe from all of this.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from types import TracebackType
from typing import Self

from headrace_gateway.call import Lease
from headrace_gateway.http.exchange import Exchange

WATCH_AFTER_SECONDS = 0.02
"""Watching for a client that goes costs two tasks: requests that are done by then are spared that."""


class Reason(Enum):
    CLIENT_GONE = auto()
    REVOKED = auto()
    DEADLINE = auto()
    SHUTDOWN = auto()


class Interrupted(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Interruption:
    """`async with` one around what may be interrupted; it raises `Interrupted`."""

    __slots__ = ("_deadline", "_exchange", "_lease", "_reason", "_running", "_task", "_watch", "_watchers")

    def __init__(
        self, exchange: Exchange, lease: Lease, *, deadline_seconds: float, running: set["Interruption"]
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "requests run in tasks"
        loop = asyncio.get_running_loop()
        self._task = task
        self._exchange = exchange
        self._lease = lease
        self._running = running
        self._reason: Reason | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._watch = loop.call_later(WATCH_AFTER_SECONDS, self._begin_watching)
        self._deadline = loop.call_later(deadline_seconds, self.interrupt, Reason.DEADLINE)

    def interrupt(self, reason: Reason) -> None:
        """Ends the block, unless it has ended or is ending already."""
        if self._reason is None and self in self._running:
            self._reason = reason
            self._task.cancel()

    async def __aenter__(self) -> Self:
        self._running.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.discard(self)
        self._watch.cancel()
        self._deadline.cancel()
        for watcher in self._watchers:
            watcher.cancel()
        if self._reason is None:
            return
        cancelled_by_others_too = self._task.uncancel() > 0
        if kind is asyncio.CancelledError and not cancelled_by_others_too:
            raise Interrupted(self._reason) from error

    def _begin_watching(self) -> None:
        self._watchers = [
            self._task.get_loop().create_task(self._interrupt_after(waiting, reason))
            for waiting, reason in (
                (self._exchange.gone, Reason.CLIENT_GONE),
                (self._lease.revoked.wait, Reason.REVOKED),
            )
        ]

    async def _interrupt_after(self, happened: Callable[[], Awaitable[object]], reason: Reason) -> None:
        await happened()
        self.interrupt(reason)
