"""One TCP connection to Valkey: calls go out in the order made, joined into one write a loop tick, and
replies come back in that order.

What must stay true: every call is told its end once, its reply or `ValkeyConnectionLost`; and no call waits
longer than `timeout_seconds`, because the oldest one that does takes the connection down with it (replies
have no names, so after a lost one nothing behind it can be trusted).
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import hiredis

from headrace_gateway.valkey.errors import (
    ValkeyConnectionLost,
    ValkeyError,
    ValkeyRefused,
    ValkeyUnavailable,
)

# Replies that arrived while the loop was held up are read before a silence counts as one.
SECOND_LOOK_SECONDS = 0.02

# What is written before the socket takes it: a burst of calls as large as may be outstanding. Asyncio's own 64 KiB would
# refuse what a hundred requests bring in one turn of the loop.
WRITE_AHEAD_BYTES_MAX = 16 * 2**20

# After a failover the old primary answers READONLY: dialling again finds the new one.
CODES_THAT_END_THE_CONNECTION = frozenset({"READONLY", "NOAUTH"})

Then = Callable[[Any], None]
"""What is done with a call's end: its reply, or the `ValkeyError` that it ended by. It must not raise."""


class Wire(asyncio.Protocol):
    def __init__(
        self, *, timeout_seconds: float, outstanding_max: int, before_sending: Callable[[], None]
    ) -> None:
        self._before_sending = before_sending
        self._loop = asyncio.get_running_loop()
        self._outstanding_max = outstanding_max
        # A call is overdue when a whole period passed over it, so it waits one to two periods.
        self._period_seconds = timeout_seconds / 2
        self._reader = hiredis.Reader(replyError=ValkeyRefused)
        self._waiting: deque[Then] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._sent = self._answered = self._overdue_below = 0
        self._watch: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def outstanding(self) -> int:
        return len(self._waiting)

    def call(self, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = self._loop.create_future()
        self.send(hiredis.pack_command(command), partial(_end, reply))
        return reply

    def send(self, packed: bytes, then: Then) -> None:
        """A command as it stands on the wire. Raises `ValkeyUnavailable`, and then nothing was sent.

        `then` is called as the reply is read: a future and its turns of the loop would cost more than the call.
        """
        if self._transport is None or self.closed.done():
            raise ValkeyUnavailable("not connected")
        if len(self._waiting) >= self._outstanding_max or self._paused:
            raise ValkeyUnavailable(f"{len(self._waiting)} calls are outstanding")
        self._waiting.append(then)
        self._sent += 1
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        self._before_sending()
        packed, self._unsent = self._unsent, []
        if self._transport is not None and not self.closed.done():
            self._transport.write(b"".join(packed))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports without being derived from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES_MAX)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._watch = self._loop.call_later(self._period_seconds, self._look, False)

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                then = waiting.popleft()
                self._answered += 1
                then(reply)
                if isinstance(reply, ValkeyRefused) and reply.code in CODES_THAT_END_THE_CONNECTION:
                    self.close()
        except (hiredis.ProtocolError, IndexError):  # garbage, or more replies than calls
            self.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if self._watch is not None:
            self._watch.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        while self._waiting:
            self._waiting.popleft()(ValkeyConnectionLost("the connection went away under the call"))

    def _look(self, suspected: bool) -> None:
        overdue = self._answered < self._overdue_below
        if overdue and suspected:
            self.close()
            return
        if not overdue:
            self._overdue_below = self._sent
        wait = SECOND_LOOK_SECONDS if overdue else self._period_seconds
        self._watch = self._loop.call_later(wait, self._look, overdue)


def _end(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return  # its caller may have been cancelled
    if isinstance(reply, ValkeyError):
        future.set_exception(reply)
    else:
        future.set_result(reply)
