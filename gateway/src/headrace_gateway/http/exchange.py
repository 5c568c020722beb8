"""One HTTP exchange with a client: its request as it arrives, its answer as it leaves.

What must stay true: a body is never held beyond its bound, nor a large one without room for it; an answer is begun once; `send` returns when the
connection has room again, so what it returned for was taken by a client that reads; sending to a client that has
gone raises `ClientGone`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from headrace_gateway.errors import BodyTooLarge, InvalidRequest
from headrace_gateway.http.heads import Headers, answer_head
from headrace_gateway.http.pace import Pace
from headrace_gateway.request_id import new_request_id

__all__ = ["ClientGone", "Exchange", "Headers"]

READ_AHEAD_BYTES_MAX = 64 * 1024
"""Of a body that nobody has asked for yet: who has no key may send as much as one read brings, and no more."""

SMALL_BYTES_MAX = 1024 * 1024
"""Of a body: larger ones take room. As many as there are connections may be of this size, and few are nearly."""

STEP_BYTES = 1024 * 1024
"""Of a large body that does not say how large it is, at a time."""

PACE_BYTES = 4 * 1024 * 1024
"""Of a large body; each time that so much has come, the rest may take as long again."""

PIECE_BYTES_MIN = 1024
"""Of a body, held by itself: smaller ones are held together, as each by itself takes some fifty bytes besides."""

HEADER_BYTES = 160
"""What holding a header takes besides the bytes in it."""


class ClientGone(Exception):
    """The client closed the connection."""


class Room(Protocol):
    """What large bodies take of memory, by whose they are."""

    def take(self, org: str, count: int) -> None: ...
    def give_back(self, org: str, count: int) -> None: ...


class Line(Protocol):
    """What an exchange needs of its connection."""

    @property
    def gone(self) -> bool: ...
    @property
    def peer(self) -> str: ...
    @property
    def date_line(self) -> bytes: ...
    def keeps_alive(self, exchange: "Exchange") -> bool: ...
    def write(self, data: bytes) -> None: ...
    @property
    def has_room(self) -> bool: ...
    async def room(self) -> None: ...
    def when_gone(self, then: Callable[[], None] | None) -> None: ...
    def want_body(self, exchange: "Exchange") -> None: ...
    def finished(self, exchange: "Exchange") -> None: ...
    def abort(self) -> None: ...


class Exchange:
    __slots__ = (
        "_bytes_max",
        "_fault",
        "_head",
        "_headers",
        "_line",
        "_org",
        "_pieces",
        "_piecewise",
        "_request_id",
        "_room",
        "_room_bytes",
        "_waiter",
        "answered",
        "body_bytes",
        "chunked",
        "complete",
        "expects_continue",
        "head_bytes",
        "keep_alive",
        "method",
        "path",
        "streaming",
        "target",
    )

    def __init__(
        self,
        line: Line,
        method: str,
        path: str,
        headers: dict[bytes, bytes],
        *,
        keep_alive: bool,
        chunked: bool,
        target: bytes = b"",
    ) -> None:
        self._line = line
        self.method = method
        self.path = path
        self.target = target
        """As it was sent, with its query."""
        self._headers = headers
        self.keep_alive = keep_alive
        """Whether the connection may carry another exchange after this one; final once the answer began."""
        self.chunked = chunked
        """Whether a streamed answer is sent in chunks; HTTP/1.0 knows none, and reads until the end."""
        self.expects_continue = b"expect" in headers and chunked
        self.complete = False
        """Whether the whole request has arrived."""
        self.body_bytes = 0
        self.answered = False
        self.streaming = False
        self._pieces: list[bytes | bytearray] = []
        self._piecewise = False
        self._request_id: str | None = None
        self._bytes_max = READ_AHEAD_BYTES_MAX
        self._fault: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._room_bytes = 0

    @property
    def peer(self) -> str:
        """The address at the other end of the connection."""
        return self._line.peer

    def header(self, name: str) -> str | None:
        """Null where there is none. One that is not ASCII has no value of any use, but it is not absent."""
        value = self._headers.get(name.encode())
        if value is None:
            return None
        return value.decode() if value.isascii() else "\N{REPLACEMENT CHARACTER}"

    @property
    def may_be_long(self) -> bool:
        """Whether a body is on its way that is a large one, or does not say."""
        return (
            not self.complete
            and int(self._headers.get(b"content-length", SMALL_BYTES_MAX + 1)) > SMALL_BYTES_MAX
        )

    @property
    def request_id(self) -> str:
        """That of its admission, or one of its own where it is refused before."""
        if self._request_id is None:
            self._request_id = new_request_id()
        return self._request_id

    def admitted_as(self, request_id: str) -> None:
        self._request_id = request_id

    def authorize(self, secret: str) -> None:
        """Goes on as if the client had sent this key."""
        self._headers[b"authorization"] = f"Bearer {secret}".encode()

    async def body(
        self, *, bytes_max: int, timeout_seconds: float, room: Room | None = None, org: str = ""
    ) -> bytes:
        """Where it is large, it takes room as that organisation's until the exchange ends; `Room` says what that raises.

        Raises `TimeoutError` when it takes too long to come: of a large one, each few megabytes may take as long.
        """
        length = self._headers.get(b"content-length")
        size = 0 if length is None else int(length)
        if size > bytes_max:
            raise BodyTooLarge(limit_bytes=bytes_max)
        if not self.complete:
            if size > SMALL_BYTES_MAX:
                self._take(room, org, size)
            self._bytes_max = min(bytes_max, SMALL_BYTES_MAX)
            self._line.want_body(self)
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with asyncio.timeout(timeout_seconds) as patience:
                while not self._settled(bytes_max):
                    if self.full:
                        self._bytes_max = min(bytes_max, self.body_bytes + STEP_BYTES)
                        if length is None:
                            self._take(room, org, self._bytes_max)
                        patience.reschedule(began + timeout_seconds * (1 + self.body_bytes / PACE_BYTES))
                        self._line.want_body(self)
                    self._waiter = loop.create_future()
                    await self._waiter
        if self.body_bytes > bytes_max:
            raise BodyTooLarge(limit_bytes=bytes_max)
        if self._fault is not None:
            raise InvalidRequest(self._fault)
        pieces, self._pieces = self._pieces, []
        # The first is held as it came.
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self, pace: Pace) -> AsyncGenerator[bytes, None]:
        """The body as it comes, however large: the client sends more when these were taken.

        Raises `TimeoutError` when it comes too slowly, and `InvalidRequest` where it breaks off.
        """
        self._piecewise = True
        while True:
            if self._pieces:
                pieces, self._pieces = self._pieces, []
                yield b"".join(pieces)
            elif self._fault is not None:
                raise InvalidRequest(self._fault)
            elif self.complete:
                return
            else:
                self._bytes_max = self.body_bytes + READ_AHEAD_BYTES_MAX
                self._line.want_body(self)
                async with pace.waiting(self.body_bytes):
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter

    def when_gone(self, then: Callable[[], None] | None) -> None:
        """Calls `then` once the client has gone, never from within a call that it made; null takes that back."""
        self._line.when_gone(then)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        assert not self.answered, "an exchange is answered once"
        self.answered = True
        head = self._head_of(status, headers, b"content-length: %d\r\n" % len(body))
        self._line.write(head if self.method == "HEAD" else head + body)

    def begin(self, status: int, headers: Headers) -> None:
        """Begins an answer that `send` goes on with and `end` ends."""
        assert not self.answered, "an exchange is answered once"
        self.answered = self.streaming = True
        # It leaves together with the first piece.
        self._head = self._head_of(
            status, headers, b"transfer-encoding: chunked\r\n" if self.chunked else b""
        )

    async def send(self, piece: bytes) -> None:
        """Returns when the client may be given more."""
        if not self.push(piece):
            await self.room()

    def push(self, piece: bytes) -> bool:
        """Whether the client may be given more at once; else `room` tells when."""
        assert self.streaming, "an answer is begun before it goes on"
        line = self._line
        if line.gone:
            raise ClientGone
        # An empty chunk would be the last one.
        if piece:
            head, self._head = self._head, b""
            line.write(head + (b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece))
        if line.gone:
            raise ClientGone
        return line.has_room

    async def room(self) -> None:
        """Returns when the client may be given more."""
        await self._line.room()

    def end(self) -> None:
        """The handler is done. What it has not answered, it never will."""
        if not self.answered or (self.streaming and self._line.gone):
            # Half a stream must not look like a whole one to whoever may still read it.
            self._line.abort()
        elif self.streaming:
            self._line.write(self._head + (b"0\r\n\r\n" if self.chunked else b""))
        if self._room_bytes:
            assert self._room is not None, "what was taken was taken somewhere"
            self._room.give_back(self._org, self._room_bytes)
        self._line.finished(self)

    def break_off(self) -> None:
        """Leaves an answer that was begun without its end, so that nobody takes it for a whole one."""
        self._line.abort()

    # for the connection

    def waits(self) -> None:
        """It is held until those before it are answered; from now on `head_bytes` says what its head takes."""
        self.head_bytes = len(self.target) + sum(
            len(name) + len(value) + HEADER_BYTES for name, value in self._headers.items()
        )

    @property
    def framing(self) -> bytes:
        """The line of the head that says how long the body is; empty where there is none."""
        for name in (b"content-length", b"transfer-encoding"):
            if (value := self._headers.get(name, b"0")) != b"0":
                return b"%b: %b" % (name, value)
        return b""

    @property
    def full(self) -> bool:
        return self.body_bytes > self._bytes_max

    def add(self, piece: bytes) -> None:
        self.body_bytes += len(piece)
        if self.answered:
            return
        pieces = self._pieces
        if not pieces or len(piece) >= PIECE_BYTES_MIN:
            pieces.append(piece)
        elif isinstance(pieces[-1], bytearray):
            pieces[-1] += piece
        else:
            pieces.append(bytearray(piece))
        if self.full or self._piecewise:
            self._wake()

    def arrived(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, fault: str) -> None:
        """The rest of the body will not come, or cannot be read."""
        self._fault = fault
        self._wake()

    def _settled(self, bytes_max: int) -> bool:
        return self.complete or self._fault is not None or self.body_bytes > bytes_max

    def _take(self, room: Room | None, org: str, size: int) -> None:
        """Room for so much of the body in all."""
        if room is not None and size > self._room_bytes:
            room.take(org, size - self._room_bytes)
            self._room, self._org, self._room_bytes = room, org, size

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _head_of(self, status: int, headers: Headers, framing: bytes) -> bytes:
        line = self._line
        self.keep_alive = line.keeps_alive(self)
        return answer_head(status, headers, framing, line.date_line, keep_alive=self.keep_alive)
