"""What may end a request from outside while it waits for something: told to the waiting task as a cancellation.

What must stay true: inside the block nothing has to look out for it; outside of it nothing is ever cancelled, so
that settling a request is safe from all of this.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from types import TracebackType
from typing import Self

from headrace_gateway.call import Credentials, Meter, Watch
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.problems import DeadlineReached, Revoked

SWEEP_SECONDS = 0.25
"""One look at all that runs is cheaper than timers and tasks for each; no deadline here needs to be finer, and a
lost lease is found out by the second."""


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

    __slots__ = ("_exchange", "_reason", "_running", "_task", "_watch", "deadline")

    def __init__(self, exchange: Exchange | None, watch: Watch, running: "Running") -> None:
        """`exchange`: null where the request goes on although its client is gone."""
        task = asyncio.current_task()
        assert task is not None, "requests run in tasks"
        self._task = task
        self._exchange = exchange
        self._watch = watch
        self._running = running
        self._reason: Reason | None = None
        self.deadline = 0.0

    @property
    def revoked(self) -> bool:
        return self._watch.revoked.is_set()

    def interrupt(self, reason: Reason) -> None:
        """Ends the block, unless it has ended or is ending already. Not for the task in it."""
        if self._reason is None and self in self._running:
            self._reason = reason
            self._task.cancel()

    async def __aenter__(self) -> Self:
        self._running.add(self)
        if self._exchange is not None:
            self._exchange.when_gone(self._client_gone)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.discard(self)
        if self._exchange is not None:
            self._exchange.when_gone(None)
        if self._reason is None:
            return
        cancelled_by_others_too = self._task.uncancel() > 0
        if kind is asyncio.CancelledError and not cancelled_by_others_too:
            raise Interrupted(self._reason) from error

    def _client_gone(self) -> None:
        self.interrupt(Reason.CLIENT_GONE)


class Running:
    """All requests that may be interrupted, and the one clock that watches over them."""

    def __init__(self, *, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._members: set[Interruption] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Interruption]:
        return iter(list(self._members))

    def __contains__(self, interruption: Interruption) -> bool:
        return interruption in self._members

    def add(self, interruption: Interruption) -> None:
        loop = asyncio.get_running_loop()
        interruption.deadline = loop.time() + self._deadline_seconds
        self._members.add(interruption)
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def discard(self, interruption: Interruption) -> None:
        self._members.discard(interruption)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for interruption in self:
            if interruption.revoked:
                interruption.interrupt(Reason.REVOKED)
            elif interruption.deadline < now:
                interruption.interrupt(Reason.DEADLINE)
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop) if self._members else None


@asynccontextmanager
async def while_valid(meter: Meter, credentials: Credentials, running: Running) -> AsyncIterator[None]:
    """Around what goes on for long without a lease. Raises `Revoked`, or `DeadlineReached`."""
    async with meter.watch(credentials) as watch:
        try:
            async with Interruption(None, watch, running):
                yield
        except Interrupted as interruption:
            if interruption.reason is Reason.REVOKED:
                raise Revoked from interruption
            raise DeadlineReached("The request took longer than it may.") from interruption
