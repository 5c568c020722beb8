"""One HTTP exchange with a client; the only file that knows the server's interface (granian's RSGI).

What must stay true: a body is never held beyond its bound; an answer is begun once; bytes count as handed to the
client when the server has taken them, and sending to a client that has gone raises `ClientGone`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from granian.rsgi import ProtocolClosed, ProtocolError

from headrace_gateway.errors import BodyTooLarge, InvalidRequest

Headers = list[tuple[str, str]]

DRAIN_SECONDS = 2.0
"""For a client that still sends a body we refused: most read the answer only after that."""

DRAIN_BYTES_MAX = 64 * 1024 * 1024


class ClientGone(Exception):
    """The client closed the connection."""


class RequestHeaders(Protocol):
    def get(self, name: str, default: str | None = None) -> str | None: ...
    def __contains__(self, name: str) -> bool: ...


class Scope(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> RequestHeaders: ...


class StreamTransport(Protocol):
    def send_bytes(self, data: bytes) -> Awaitable[None]: ...


class ServerProtocol(Protocol):
    def __call__(self) -> Awaitable[bytes]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def client_disconnect(self) -> Awaitable[None]: ...
    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...
    def response_stream(self, status: int, headers: Headers) -> StreamTransport: ...


class Exchange:
    __slots__ = ("_protocol", "_scope", "_stream", "answered")

    def __init__(self, scope: Scope, protocol: ServerProtocol) -> None:
        self._scope = scope
        self._protocol = protocol
        self._stream: StreamTransport | None = None
        self.answered = False

    @property
    def method(self) -> str:
        return self._scope.method

    @property
    def path(self) -> str:
        return self._scope.path

    def header(self, name: str) -> str | None:
        """Null where there is none. One that is not ASCII has no value of any use, but it is not absent."""
        headers = self._scope.headers
        value = headers.get(name)
        return "\N{REPLACEMENT CHARACTER}" if value is None and name in headers else value

    async def body(self, *, bytes_max: int, timeout_seconds: float) -> bytes:
        """Raises `TimeoutError` when it takes too long to come."""
        length = self.header("content-length")
        if length is not None and int(length) > bytes_max:
            raise BodyTooLarge(limit_bytes=bytes_max)
        async with asyncio.timeout(timeout_seconds):
            if length is None:
                return await self._unmeasured_body(bytes_max)
            try:
                return await self._protocol()
            except (ProtocolClosed, ProtocolError):
                raise InvalidRequest("The body ended before its length.") from None

    async def drain(self) -> None:
        """Takes what the client still sends and throws it away, for a while."""
        size = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                async for piece in self._protocol:
                    size += len(piece)
                    if not piece or size > DRAIN_BYTES_MAX:
                        return
        except (TimeoutError, ProtocolClosed, ProtocolError):
            return

    async def gone(self) -> None:
        """Returns when the client has gone; cancel it when the exchange is over."""
        await self._protocol.client_disconnect()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.answered = True
        self._protocol.response_bytes(status, headers, body)

    def begin(self, status: int, headers: Headers) -> None:
        """Begins an answer that `send` goes on with and `end` ends."""
        self.answered = True
        self._stream = self._protocol.response_stream(status, headers)

    async def send(self, piece: bytes) -> None:
        assert self._stream is not None, "an answer is begun before it goes on"
        try:
            await self._stream.send_bytes(piece)
        except (ProtocolClosed, ProtocolError):
            raise ClientGone from None

    def end(self) -> None:
        # The server ends the answer when nobody holds its transport any more.
        self._stream = None

    async def _unmeasured_body(self, bytes_max: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in self._protocol:
            size += len(piece)
            if size > bytes_max:
                raise BodyTooLarge(limit_bytes=bytes_max)
            pieces.append(piece)
        return b"".join(pieces)
