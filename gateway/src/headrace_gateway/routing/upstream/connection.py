"""One HTTP/1.1 connection to an engine, carrying one exchange at a time.

What must stay true: bytes are parsed as they arrive and given to the reply in order, whether the transport reads them or
the gathering does, never both; nothing is read ahead beyond `READ_AHEAD_BYTES_MAX` of what the relay has taken; a
connection is used again only when the reply ended where HTTP says it ends.
"""

import asyncio
import os
import re
from typing import Protocol, cast

import httptools

from headrace_contracts.engine import CACHED_TOKENS_HEADER
from headrace_gateway.routing.upstream.errors import ReplyBroken, StaleConnection
from headrace_gateway.routing.upstream.gathering import Gathering
from headrace_gateway.routing.upstream.reply import Reply

CACHED_TOKENS = CACHED_TOKENS_HEADER.encode()
CACHED_TOKENS_VALUE = re.compile(rb"[0-9]{1,12}")
RETRY_AFTER_VALUE = re.compile(rb"[0-9]{1,9}", re.ASCII)

READ_AHEAD_BYTES_MAX = 256 * 1024
"""A client that reads slower than the engine writes makes the engine wait instead of filling our memory."""

GATHERED_BYTES = 16 * 1024
"""Read at once of a stream that is read with others; a token is some hundred."""

HEAD_BYTES_MAX = 64 * 1024
"""An engine's status line and headers are some hundred bytes."""

STATUSES = range(100, 600)
"""What is outside says neither that a reply is there nor that one will come."""


class Owner(Protocol):
    """Who keeps connections between exchanges."""

    def take_back(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: Owner, gathering: Gathering | None = None
    ) -> None:
        """`gathering`: by which it may be read, if what the socket has is what the engine said."""
        self._loop = loop
        self._owner = owner
        self._gathering = gathering
        self._gathered: int | None = None
        """The descriptor that the gathering reads; the transport reads nothing meanwhile."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reply: Reply | None = None
        self._head_bytes = 0
        self._framed = False
        self._interim = False
        self._keep_alive = False
        self._paused = False
        self._room: asyncio.Future[None] | None = None
        self._last = False
        self.closed = False
        self.exchanges = 0
        self.idle_since = 0.0

    def look_at_the_clock(self, now: float) -> None:
        reply = self._reply
        if reply is not None and reply.deadline <= now:
            reply.too_late()

    def start(self, request: bytes, *, last: bool = False) -> Reply:
        """Sends a request, or its head; its reply arrives in what this returns. `last`: none follows it."""
        assert self._reply is None, "a connection carries one exchange at a time"
        assert self._transport is not None, "a connection is used after it has been made"
        self.exchanges += 1
        self._head_bytes = 0
        self._framed = False
        self._last = last
        reply = Reply(self, self._loop)
        if self.closed:
            reply.fail(StaleConnection("closed before the request was written"))
            return reply
        self._reply = reply
        self._transport.write(request)
        return reply

    async def write(self, piece: bytes) -> None:
        """More of a request; returns when there is room for more."""
        if self.closed or self._transport is None:
            return  # why stands in the reply
        self._transport.write(piece)
        if self._room is not None:
            await self._room

    def abort(self) -> None:
        """Closes at once: the engine learns that nobody wants the rest."""
        self.closed = True
        self._leave_gathering()
        if self._transport is not None:
            self._transport.abort()

    def gather(self) -> None:
        """Has the rest of the reply read together with others, unless its reader turns out slow."""
        transport = self._transport
        if self._gathering is None or self._gathered is not None or self._paused or transport is None:
            return
        if self.closed or transport.is_closing():
            return
        transport.pause_reading()
        self._gathered = transport.get_extra_info("socket").fileno()
        self._gathering.join(self._gathered, self._read)

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self.closed:
            self._paused = True
            if not self._leave_gathering():
                self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    def finish(self) -> None:
        """Ends an exchange whose reply is complete: back to the pool, if it may carry another."""
        self._reply = None
        assert self._transport is not None, "a finished exchange was started"
        if self._leave_gathering():
            self._transport.resume_reading()
        # What the engine had not read of a request when it answered would be taken for the next one.
        if self.closed or self._last or not self._keep_alive or self._transport.get_write_buffer_size() > 0:
            self.abort()
            return
        self.resume()
        self._owner.take_back(self)

    # the gathering

    def _read(self) -> None:
        assert self._gathered is not None, "who has left is read no more"
        try:
            data = os.read(self._gathered, GATHERED_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            # The kernel tells it once; the transport would take it for the engine's end.
            self._break(f"the connection was lost: {error}")
            return
        if data:
            self.data_received(data)
            return
        self._leave_gathering()
        assert self._transport is not None, "a gathered connection has been made"
        self._transport.resume_reading()  # and finds the end itself

    def _leave_gathering(self) -> bool:
        """Whether it was read there."""
        if self._gathered is None:
            return False
        assert self._gathering is not None, "it was gathered"
        self._gathering.leave(self._gathered)
        self._gathered = None
        return True

    def _break(self, why: str) -> None:
        self.abort()
        if self._reply is not None:
            self._reply.fail(ReplyBroken(why))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None or reply.complete:
            # Bytes that nobody asked for: whatever they belong to, it is no reply of ours.
            self.abort()
            return
        if not reply.head_seen:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(f"the reply is no HTTP: {error}")
            return
        if not reply.head_seen and self._head_bytes > HEAD_BYTES_MAX:
            self._break(f"the reply's head is larger than {HEAD_BYTES_MAX} bytes")
            return
        if reply.buffered_bytes > READ_AHEAD_BYTES_MAX and not reply.complete:
            self.pause()
        reply.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._leave_gathering()
        self.resume_writing()
        reply, self._reply = self._reply, None
        if reply is not None and not reply.complete:
            if reply.head_seen and not self._framed and exc is None:
                # Neither a length nor chunks: such a reply ends where the connection does.
                reply.end()
            elif self.exchanges > 1 and not reply.head_seen and self._head_bytes == 0:
                reply.fail(StaleConnection("closed before a byte of the reply"))
            else:
                reply.fail(ReplyBroken(f"the connection was lost: {exc or 'closed by the engine'}"))
            reply.wake()
        self._owner.forget(self)

    # httptools

    def on_message_begin(self) -> None:
        if self._reply is None or self._reply.complete:
            raise ReplyBroken("a second reply to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._reply is not None, "headers belong to a reply"
        name = name.lower()
        if name == b"content-type":
            self._reply.content_type = value.decode("latin-1")
        elif name == CACHED_TOKENS:
            self._reply.cached_tokens = int(value) if CACHED_TOKENS_VALUE.fullmatch(value) else None
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif name == b"retry-after" and RETRY_AFTER_VALUE.fullmatch(value):
            self._reply.retry_after = value.decode()

    def on_headers_complete(self) -> None:
        assert self._reply is not None, "a head belongs to a reply"
        status = self._parser.get_status_code()
        if status not in STATUSES:
            raise ReplyBroken(f"a reply with status {status}")
        self._interim = 100 <= status < 200
        if not self._interim:
            self._reply.begin(status)

    def on_body(self, piece: bytes) -> None:
        assert self._reply is not None, "a body belongs to a reply"
        self._reply.add(piece)

    def on_message_complete(self) -> None:
        assert self._reply is not None, "an end belongs to a reply"
        if self._interim:
            self._interim = False
            self._framed = False
            return
        # The parser forgets this as soon as this call returns.
        self._keep_alive = self._parser.should_keep_alive()
        self._reply.end()
