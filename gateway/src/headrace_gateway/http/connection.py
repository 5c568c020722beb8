"""One client's connection: requests are served one after the other, in the order in which they arrive.

What must stay true: at most one exchange runs at a time, and the next begins when its answer has left; nothing
that a client sends or leaves unread makes us hold more than the bounds below; a client that goes is known to be
gone at once; after bytes that are no HTTP nothing more is read as a request.

A client that ends its side of the connection counts as gone: one that closed looks exactly the same, and the
GPU would go on generating for nobody.
"""

import asyncio
import contextlib
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Protocol, cast

from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.heads import Unacceptable, malformed
from headrace_gateway.http.request_reader import RequestReader

PIPELINED_MAX = 16
"""Requests that wait behind the one that runs. Who sends more reads our answers to these and asks again."""

AHEAD_BYTES_MAX = 128 * 1024
"""Of these requests, heads and bodies. Beyond it nothing is read as a request any more, but it is read: a loop that
does not read would not see the client go. Clients send their next body when they have our answer."""

WRITE_AHEAD_BYTES_MAX = 64 * 1024
"""Beyond the kernel's own buffers: what a client leaves unread of a stream before the engine has to wait."""

STALL_SECONDS = 60.0
"""After so long we look whether a client whose answer stands in our buffer reads it."""

READ_BYTES_A_SECOND_MIN = 1024
"""Slower is nobody reading."""

KEEP_IDLE_SECONDS = 75.0
"""Between exchanges. Longer than load balancers keep theirs, so that they close and never meet our closing."""

LINGER_SECONDS = 2.0
"""For a client that still sends a body we refused, once our answer has left: most read it only after that."""

LINGER_BYTES_MAX = 64 * 1024 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Application = Callable[[Exchange], Awaitable[None]]


class Owner(Protocol):
    """Who keeps the connections and the clock."""

    @property
    def draining(self) -> bool: ...
    @property
    def date_line(self) -> bytes: ...
    @property
    def head_timeout_seconds(self) -> float: ...
    @property
    def resting(self) -> MutableMapping["ClientConnection", None]:
        """Those that have a place and no request, in the order in which they came to rest; they keep it true."""

    @property
    def beginning(self) -> MutableMapping["ClientConnection", None]:
        """Those of which a part of a request's head has come and nothing else is under way, likewise."""

    def admit(self, connection: "ClientConnection") -> bool: ...
    def forget(self, connection: "ClientConnection") -> None: ...


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "_application",
        "_beginning",
        "_current",
        "_drained",
        "_ending",
        "_linger_bytes",
        "_lingers",
        "_loop",
        "_owner",
        "_queue",
        "_reader",
        "_reading_paused",
        "_resting",
        "_task",
        "_transport",
        "_unread",
        "_untaken_bytes",
        "_when_gone",
        "_writing_paused",
        "deadline",
        "gone",
        "peer",
    )

    def __init__(self, application: Application, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._application = application
        self._owner = owner
        self._resting = owner.resting
        self._beginning = owner.beginning
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(self)
        self.gone = False
        """Whether the client has closed its side, or the connection is broken."""
        self.peer = ""
        """The address at its other end: a client's, or a proxy's."""
        self.deadline = math.inf
        """When its owner closes it, unless something happens before."""

        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Exchange] = deque()

        self._unread = False  # from here on nothing is parsed
        self._lingers = False
        self._ending = False
        self._linger_bytes = 0

        self._reading_paused = False
        self._writing_paused = False
        self._untaken_bytes = 0  # when we began to wait for the client to read; none while we don't
        self._drained: asyncio.Future[None] | None = None
        self._when_gone: Callable[[], None] | None = None

    # for the owner

    def close(self) -> None:
        """What is buffered still leaves, if the client reads it in time."""
        self._leave_waiting()
        self._ending = self._unread = True
        self._await_reader()
        if self._transport is not None:
            self._transport.close()

    def overdue(self) -> None:
        """Its deadline has passed: breaks it off, unless a client that has much to read goes on reading."""
        taken_bytes = self._untaken_bytes - self._untaken()
        if taken_bytes >= STALL_SECONDS * READ_BYTES_A_SECOND_MIN:
            self._await_reader()
        else:
            self.abort()

    def abort(self) -> None:
        """Breaks it off; what is buffered is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._has_gone()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES_MAX)
        self.peer = (transport.get_extra_info("peername") or ("",))[0]
        self._await_for(self._owner.head_timeout_seconds)
        if not self._owner.admit(self):
            self._unread = True
            self._refuse(Unacceptable(503, "overloaded", "All connections are taken; try again in a moment."))

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._linger_bytes += len(data)
            if self._linger_bytes > LINGER_BYTES_MAX:
                self.abort()
            return
        was_in_head = self._reader.in_head
        try:
            goes_on = self._reader.feed(data)
        except Unacceptable as refusal:
            self._give_up(refusal)
            return
        if not goes_on:
            self._unread = self._lingers = True
        if self._reader.in_head and not was_in_head and self._current is None:
            self._begin_head()
        if self._queue:
            if self._ahead_bytes() > AHEAD_BYTES_MAX:
                self._give_up(_too_far_ahead())
        elif self._reader.full:
            self._pause_reading()

    def eof_received(self) -> bool:
        if self._current is None:
            return False
        self._reader.fail("The body ended before its length.")
        self._queue.clear()
        self._unread = True
        self._has_gone()
        # What runs learns of it and ends; an answer that is leaving now still leaves.
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._queue.clear()
        self.deadline = math.inf
        self._reader.fail("The body ended before its length.")
        self._has_gone()
        # Else each is left to the garbage collector, which comes when there are thousands, and memory grows by them.
        self._reader.let_go()
        self._owner.forget(self)

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._await_reader()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._untaken_bytes = 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._ending:
            self._heard_out()
        elif self._current is None:
            self._go_on()
        else:
            self.deadline = math.inf

    # for the reader

    def take(self, exchange: Exchange) -> None:
        """A request whose head is there. Raises `Unacceptable`."""
        if self._current is None and not self._writing_paused:
            self._start(exchange)
            return
        exchange.waits()
        if len(self._queue) >= PIPELINED_MAX or self._ahead_bytes() + exchange.head_bytes > AHEAD_BYTES_MAX:
            # Served are those that came; the client reads that the connection closes.
            raise _too_far_ahead()
        self._queue.append(exchange)

    # for exchanges

    @property
    def date_line(self) -> bytes:
        return self._owner.date_line

    def keeps_alive(self, exchange: Exchange) -> bool:
        last = self._unread and not self._queue
        return exchange.keep_alive and exchange.complete and not last and not self._owner.draining

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            # The loop tells us a moment later; who writes without a pause would never let it.
            self._has_gone()
            return
        self._transport.write(data)

    @property
    def has_room(self) -> bool:
        return not self._writing_paused

    async def room(self) -> None:
        """Returns when the client has read so much that it may be given more."""
        while self._writing_paused and not self.gone:
            self._drained = self._loop.create_future()
            await self._drained
        if self.gone:
            raise ClientGone

    def when_gone(self, then: Callable[[], None] | None) -> None:
        """Calls `then` once the client has gone, never from within a call that it made; null takes that back."""
        self._when_gone = then
        if self.gone:
            self._tell_gone()

    def want_body(self, exchange: Exchange) -> None:
        if exchange.expects_continue and exchange.body_bytes == 0:
            self.write(CONTINUE)
        self._resume_reading()

    def finished(self, exchange: Exchange) -> None:
        assert exchange is self._current, "the exchange that runs is the one that ends"
        self._current = self._task = None
        if self.gone:
            self.close()
        elif not exchange.keep_alive:
            self._end(linger=self._lingers or not exchange.complete)
        elif not self._writing_paused:
            self._go_on()

    # the order of things

    def _start(self, exchange: Exchange) -> None:
        self._leave_waiting()
        self._current = exchange
        self.deadline = math.inf
        self._task = self._loop.create_task(self._application(exchange))  # type: ignore[arg-type]

    def _go_on(self) -> None:
        """The last answer has left: the next request, the end, or a rest."""
        if self._queue:
            self._start(self._queue.popleft())
        elif self._unread or (self._owner.draining and not self._reader.in_head):
            self._end(linger=self._lingers)
        else:
            self._resume_reading()
            if self._reader.in_head:
                self._begin_head()
            else:
                self._resting[self] = None
                self._await_for(KEEP_IDLE_SECONDS)

    def _begin_head(self) -> None:
        self._resting.pop(self, None)
        self._beginning[self] = None
        self._await_for(self._owner.head_timeout_seconds)

    def _leave_waiting(self) -> None:
        self._resting.pop(self, None)
        self._beginning.pop(self, None)

    def _ahead_bytes(self) -> int:
        return sum(each.head_bytes + each.body_bytes for each in self._queue)

    def _give_up(self, refusal: Unacceptable) -> None:
        """Nothing that follows can be told apart any more: what came before is served, then it ends."""
        self._unread = self._lingers = True
        if not self._reader.fail(str(refusal)) and self._current is None and not self._queue:
            self._refuse(refusal)

    def _refuse(self, refusal: Unacceptable) -> None:
        self.write(refusal.answer(self.date_line))
        self._end(linger=True)

    def _end(self, *, linger: bool) -> None:
        """Closes; who may still be sending reads the answer only if we take that in first."""
        self._leave_waiting()
        self._queue.clear()
        if not linger or self._transport is None or self._transport.is_closing():
            self.close()
            return
        self._ending = self._unread = True
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._transport.get_write_buffer_size() == 0:
            self._await_for(LINGER_SECONDS)
        else:
            # We are told when all has left, and not some of it.
            self._transport.set_write_buffer_limits(high=0)
            self._await_reader()

    def _heard_out(self) -> None:
        """All that we had to say has left, unless it is closed and leaves by itself."""
        if self._transport is not None and not self._transport.is_closing():
            self._await_for(LINGER_SECONDS)

    def _has_gone(self) -> None:
        self.gone = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._tell_gone()

    def _tell_gone(self) -> None:
        if self._when_gone is not None:
            self._loop.call_soon(self._when_gone)
            self._when_gone = None

    def _await_reader(self) -> None:
        self._untaken_bytes = self._untaken()
        self._await_for(STALL_SECONDS)

    def _untaken(self) -> int:
        """Bytes that we wrote and the client has not taken, in our buffer and the kernel's.

        The kernel takes more from us a megabyte at a time, which says nothing of who reads slowly.
        """
        if self._transport is None:
            return 0
        held = self._transport.get_write_buffer_size()
        with contextlib.suppress(OSError, ValueError):  # it is closed, or no kernel that tells
            socket = self._transport.get_extra_info("socket")
            held += int.from_bytes(ioctl(socket.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
        return held

    def _await_for(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()


def _too_far_ahead() -> Unacceptable:
    return malformed("too many requests at once")
