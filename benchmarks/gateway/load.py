"""The load: clients that ask one after the other, and a window of them in which everything is counted.

What must stay true: the window begins and ends while all clients are at work, so neither connecting nor the last
answers are in it; an answer that is no success ends the run, because nobody wants to know what a refusal costs.
"""

import asyncio
import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import uvloop

HOST = "127.0.0.1"
END_SECONDS_MAX = 60.0
"""For what is under way at a window's end; the slowest peer needs seconds for an answer."""

REQUESTS_MIN = 10
"""A window goes on until so many are answered: of fewer nothing can be said."""

PROMPT = "Why is the sky blue? " * 12
OUTPUT_TOKENS_MAX = 256

Sample = TypeVar("Sample")


class Unanswered(AssertionError):
    """What a client got is not the answer that it asked for."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send requests, and how they look."""

    port: int
    model: str
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, *, streamed: bool) -> bytes:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": OUTPUT_TOKENS_MAX,
        }
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        encoded = json.dumps(body, separators=(",", ":"))
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            f"host: {HOST}:{self.port}",
            "content-type: application/json",
            f"content-length: {len(encoded)}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + encoded).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What clients do, and for how long."""

    streamed: bool
    connections: int
    warm_seconds: float
    """Before the window."""
    seconds: float
    begin_seconds: float = 0.0
    """Over which the clients begin one after the other."""
    requests_per_second: float | None = None
    """Of all clients together, each resting a time of chance after an answer; null: each asks again at once."""

    def rest_seconds(self) -> float:
        if self.requests_per_second is None:
            return 0.0
        return random.uniform(0, 2 * self.connections / self.requests_per_second)


@dataclass(slots=True)
class Counts:
    """What clients saw. Latencies are to the first token of a stream, else to the whole answer."""

    requests: int = 0
    chunks: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    asking: bool = True
    """Clients stop after their present answer when nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Window(Generic[Sample]):
    """What happened between two samples of whatever the caller samples."""

    seconds: float
    requests: int
    chunks: int
    latencies_ms: Sequence[float]
    before: Sample
    after: Sample


class Client(asyncio.Protocol):
    """Asks again and again over one connection."""

    def __init__(self, request: bytes, counts: Counts, ended: asyncio.Future[None], work: Work) -> None:
        self._request = request
        self._counts = counts
        self._ended = ended
        self._work = work
        self._streamed = work.streamed
        self._seen = b""
        self._end: int | None = None
        self._sent_at = 0.0
        self._began = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(
                Unanswered(f"the connection was closed: {exc}, after {self._seen[:300]!r}")
            )

    def data_received(self, data: bytes) -> None:
        if self._streamed:
            self._take_piece(data)
        else:
            self._take_part(data)

    def _take_part(self, data: bytes) -> None:
        self._seen += data
        if self._end is None:
            self._end = _length(self._seen)
        whole = (
            self._seen.endswith(b"\r\n0\r\n\r\n") if self._end == 0 else len(self._seen) >= (self._end or 1e9)
        )
        if whole:
            self._note_latency()
            self._answered()

    def _take_piece(self, data: bytes) -> None:
        if not self._began:
            self._seen += data
            at = self._seen.find(b"data: {")
            if at < 0:
                if not self._seen.startswith(b"HTTP/1.1 200"[: len(self._seen)]):
                    self._fail()
                return
            if not self._seen.startswith(b"HTTP/1.1 200"):
                self._fail()
                return
            self._began = True
            self._note_latency()
            data, self._seen = self._seen[at:], b""
        if b'"error":' in data:
            self._seen = data
            self._fail()
            return
        self._counts.chunks += data.count(b"data: {")
        self._seen = (self._seen + data)[-7:]
        if self._seen == b"\r\n0\r\n\r\n":
            self._answered()

    def _note_latency(self) -> None:
        self._counts.latencies_ms.append((time.perf_counter() - self._sent_at) * 1000)

    def _answered(self) -> None:
        if not self._streamed and not self._seen.startswith(b"HTTP/1.1 200"):
            self._fail()
            return
        self._counts.requests += 1
        if rest := self._work.rest_seconds():
            asyncio.get_running_loop().call_later(rest, self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._counts.asking:
            self._ask()
        elif not self._ended.done():
            self._ended.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        self._seen, self._end, self._began = b"", None, False
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self) -> None:
        if not self._ended.done():
            self._ended.set_exception(Unanswered(repr(self._seen[:500])))
        self._transport.abort()


def _length(seen: bytes) -> int | None:
    """Of the whole answer, head included; 0 if it comes in chunks, null while the head is not there."""
    head, whole, _ = seen.partition(b"\r\n\r\n")
    if not whole:
        return None
    _, named, rest = head.lower().partition(b"content-length:")
    return len(head) + 4 + int(rest.split(b"\r\n")[0]) if named else 0


def measure(target: Target, work: Work, sample: Callable[[], Sample]) -> Window[Sample]:
    """The window in which all clients are at work; longer than told where that is too little for `REQUESTS_MIN` answers."""
    gc.collect()
    gc.disable()  # a collection of ours would be a client's latency
    try:
        return uvloop.run(_measure(target, work, sample))
    finally:
        gc.enable()


async def _measure(target: Target, work: Work, sample: Callable[[], Sample]) -> Window[Sample]:
    loop = asyncio.get_running_loop()
    counts, request = Counts(), target.request(streamed=work.streamed)
    clients: list[tuple[asyncio.Future[None], asyncio.Transport]] = []

    async def connect(number: int) -> None:
        await asyncio.sleep(work.begin_seconds * number / work.connections)
        end: asyncio.Future[None] = loop.create_future()
        transport, _ = await loop.create_connection(
            lambda: Client(request, counts, end, work), HOST, target.port
        )
        clients.append((end, transport))

    try:
        await asyncio.gather(*(connect(number) for number in range(work.connections)))
        ends = [end for end, _ in clients]
        await _while_asking(ends, work.warm_seconds)
        counts.requests = counts.chunks = 0
        counts.latencies_ms = []
        before, began = sample(), time.perf_counter()
        await _while_asking(ends, work.seconds)
        until = time.perf_counter() + END_SECONDS_MAX
        while counts.requests < REQUESTS_MIN and time.perf_counter() < until:
            await _while_asking(ends, work.seconds)
        after, elapsed = sample(), time.perf_counter() - began
        window = Window(elapsed, counts.requests, counts.chunks, tuple(counts.latencies_ms), before, after)
        counts.asking = False
        async with asyncio.timeout(END_SECONDS_MAX):
            await asyncio.gather(*ends)
        return window
    finally:
        for _, transport in clients:
            transport.abort()
        await asyncio.gather(*(end for end, _ in clients), return_exceptions=True)


async def _while_asking(ends: Sequence["asyncio.Future[None]"], seconds: float) -> None:
    """Raises `Unanswered` as soon as a client does."""
    done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for end in done:
        end.result()
