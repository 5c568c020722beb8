"""One TCP connection to Valkey: calls go out in the order made, joined into one write a loop tick, and
replies come back in that order.

What must stay true: every call's future ends, by its reply or by `ValkeyConnectionLost`; and no call waits
longer than `timeout_seconds`, because the oldest one that does takes the connection down with it (replies
have no names, so after a lost one nothing behind it can be trusted).
"""

import asyncio
import socket
from collections import deque
from typing import Any, cast

import hiredis

from headrace_gateway.valkey.errors import ValkeyConnectionLost, ValkeyRefused, ValkeyUnavailable

# Replies that arrived while the loop was held up are read before a silence counts as one.
SECOND_LOOK_SECONDS = 0.02

# What is written before the socket takes it: a burst of calls as large as may be outstanding. Asyncio's own 64 KiB would
# refuse what a hundred requests bring in one turn of the loop.
WRITE_AHEAD_BYTES_MAX = 16 * 2**20

# After a failover the old primary answers READONLY: dialling again finds the new one.
CODES_THAT_END_THE_CONNECTION = frozenset({"READONLY", "NOAUTH"})


class Wire(asyncio.Protocol):
    def __init__(self, *, timeout_seconds: float, outstanding_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._outstanding_max = outstanding_max
        # A call is overdue when a whole period passed over it, so it waits one to two periods.
        self._period_seconds = timeout_seconds / 2
        self._reader = hiredis.Reader(replyError=ValkeyRefused)
        self._waiting: deque[asyncio.Future[Any]] = deque()
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
        if self._transport is None or self.closed.done():
            raise ValkeyUnavailable("not connected")
        if len(self._waiting) >= self._outstanding_max or self._paused:
            raise ValkeyUnavailable(f"{len(self._waiting)} calls are outstanding")
        packed = hiredis.pack_command(command)
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(reply)
        self._sent += 1
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        return reply

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
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
                future = waiting.popleft()
                self._answered += 1
                if isinstance(reply, ValkeyRefused):
                    if not future.done():
                        future.set_exception(reply)
                    if reply.code in CODES_THAT_END_THE_CONNECTION:
                        self.close()
                elif not future.done():  # its caller may have been cancelled
                    future.set_result(reply)
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
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ValkeyConnectionLost("the connection went away under the call"))

    def _look(self, suspected: bool) -> None:
        overdue = self._answered < self._overdue_below
        if overdue and suspected:
            self.close()
            return
        if not overdue:
            self._overdue_below = self._sent
        wait = SECOND_LOOK_SECONDS if overdue else self._period_seconds
        self._watch = self._loop.call_later(wait, self._look, overdue)
