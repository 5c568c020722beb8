"""An engine's reply, as its bytes arrive."""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from headrace_gateway.routing.upstream.errors import ReplyBroken, ReplyTooLarge, ReplyTooSlow, UpstreamError


class Line(Protocol):
    """What a reply needs of its connection."""

    def abort(self) -> None: ...

    def gather(self) -> None: ...

    def resume(self) -> None: ...

    def finish(self) -> None: ...


Tap = Callable[[bytes], bool]
"""Gets bytes of a body in the call that brought them; false where somebody has to go on from there. It must not raise."""


class Reply:
    """Filled by a connection, emptied by whoever relays it; `close()` it, however that ended."""

    __slots__ = (
        "_closed",
        "_error",
        "_line",
        "_loop",
        "_pieces",
        "_refused",
        "_tap",
        "_waiter",
        "buffered_bytes",
        "cached_tokens",
        "complete",
        "content_type",
        "deadline",
        "left",
        "retry_after",
        "status",
        "wait_seconds",
    )

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self._line = line
        self._loop = loop
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._tap: Tap | None = None
        self._refused = False
        self._error: UpstreamError | None = None
        self._closed = False
        self.left = False
        self.status = 0
        self.content_type = ""
        self.cached_tokens: int | None = None
        """What the engine's headers say of the prefix cache."""
        self.retry_after: str | None = None
        """In how many seconds to come back, where it says so."""
        self.complete = False
        self.buffered_bytes = 0
        self.wait_seconds = 0.0
        """How long a wait for the next byte may take. Time that the relay needs itself does not count."""
        self.deadline = math.inf
        """By the loop's clock, when what is waited for comes too late; its connection's owner looks at it now and then."""

    @property
    def head_seen(self) -> bool:
        return self.status != 0

    async def head(self) -> None:
        """Returns when status and headers are there."""
        while self.status == 0:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self, tap: Tap | None = None) -> bytes:
        """The bytes of the body that came since the last call, or waits for some; empty at the end.

        While this waits, `tap` gets them; it is empty too as soon as that was false. A task's turn of the loop for each
        token costs as much as all else that is done for it.
        """
        self._tap = tap
        try:
            while not self._pieces:
                if self._refused:
                    self._refused = False
                    return b""
                if self._error is not None:
                    raise self._error
                if self.complete:
                    return b""
                await self._wait()
        finally:
            self._tap = None
        return self._taken()

    def gather(self) -> None:
        """What follows may come together with what others say, and a moment later."""
        self._line.gather()

    async def read_all(self, *, bytes_max: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read():
            size += len(piece)
            if size > bytes_max:
                raise ReplyTooLarge(f"the reply is larger than {bytes_max} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        self.deadline = self._loop.time() + self.wait_seconds
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self.left:
                self.deadline = math.inf

    # for the clock

    def too_late(self) -> None:
        if self.left:
            self.close()
            return
        self.deadline = math.inf
        self._line.abort()
        self.fail(ReplyTooSlow(f"no byte for {self.wait_seconds:g} s"))

    # for the connection

    def begin(self, status: int) -> None:
        self.status = status

    def add(self, piece: bytes) -> None:
        if self.left:
            return
        self._pieces.append(piece)
        self.buffered_bytes += len(piece)

    def end(self) -> None:
        self.complete = True
        if self.left:
            self.close()

    def fail(self, error: UpstreamError) -> None:
        """What came before the failure can still be read."""
        if self._error is None and not self.complete:
            self._error = error
        self.wake()

    def wake(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if self._tap is not None and self._pieces:
            self._refused = not self._tap(self._taken())
            if not (self._refused or self.complete or self._error is not None):
                self.deadline = self._loop.time() + self.wait_seconds
                return
        self._waiter.set_result(None)

    def _taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        self.buffered_bytes = 0
        self._line.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def leave(self, *, seconds: float) -> None:
        """Closes it as soon as it is complete, without anybody waiting for that; at the latest then."""
        self.left = True
        if self.complete:
            self.close()
            return
        self.deadline = self._loop.time() + seconds

    def close(self) -> None:
        """Gives the connection back when the reply came to its end, else breaks it off."""
        if self._closed:
            return
        self._closed = True
        self.deadline = math.inf
        self._pieces.clear()
        if self.complete:
            self._line.finish()
            return
        self._line.abort()
        self.fail(ReplyBroken("closed before its end"))
