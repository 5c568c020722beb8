"""The server alone with a small application behind it, and a client that says byte for byte what it wants."""

import asyncio
import contextlib
import http.client
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from headrace_gateway.errors import GatewayError
from headrace_gateway.http.connection import ClientConnection
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.problems import body_of, headers_of, status_of
from headrace_gateway.http.server import Listener
from tests.gateway.waiting import eventually

HOST = "127.0.0.1"
BODY_BYTES_MAX = 256 * 1024
WHOLE_BYTES = 32 * 1024 * 1024
"""More than kernels hold on both ways."""

JSON = [("content-type", "application/json")]


@dataclass
class Echo:
    """Answers with what it understood, and remembers it."""

    served: list[str] = field(default_factory=list)
    pieces_sent: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    body_timeout_seconds: float = 20.0

    async def __call__(self, exchange: Exchange) -> None:
        self.served.append(exchange.path)
        try:
            await self._handle(exchange)
        except GatewayError as error:
            exchange.answer(status_of(error), headers_of(error), body_of(error))
        except TimeoutError:
            exchange.answer(408, JSON, b"{}")
        except ClientGone:
            self.gone.set()
        finally:
            exchange.end()

    async def _handle(self, exchange: Exchange) -> None:
        match exchange.path:
            case "/refused":
                exchange.answer(401, JSON, b"{}")
            case "/stream":
                exchange.begin(200, JSON)
                for piece in (b"one", b"", b"two", b"three"):
                    await exchange.send(piece)
            case "/broken":
                exchange.begin(200, JSON)
                await exchange.send(b"half")
                exchange.break_off()
            case "/flood":
                exchange.begin(200, JSON)
                while True:
                    await exchange.send(b"x" * 1000)
                    self.pieces_sent += 1
            case "/whole":
                exchange.answer(200, JSON, b"x" * WHOLE_BYTES)
            case "/waits":
                exchange.when_gone(self.gone.set)
                await self.gone.wait()
            case "/held":
                await self.release.wait()
                exchange.answer(200, JSON, b'{"held":true}')
            case _:
                body = await exchange.body(
                    bytes_max=BODY_BYTES_MAX, timeout_seconds=self.body_timeout_seconds
                )
                said = {"method": exchange.method, "path": exchange.path, "body": body.decode("latin-1")}
                exchange.answer(200, JSON, json.dumps(said).encode())


@dataclass
class Served:
    echo: Echo
    listener: Listener
    port: int
    faults: list[object]
    """What the event loop was told of as nobody's fault but ours."""

    @property
    def connections(self) -> list[ClientConnection]:
        return list(self.listener._connections)

    async def ticked(self) -> None:
        """Returns when the server has looked at its clock."""
        before = self.listener.date_line
        await eventually(lambda: self.listener.date_line is not before)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def said_to(self, *pieces: bytes) -> bytes:
        """All that the server says to these bytes until it closes."""
        async with self.client() as client:
            await client.say(*pieces)
            return await client.rest()


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            # The server runs in this loop: it reads one piece before the next is written.
            for _ in range(3):
                await asyncio.sleep(0)

    def all_has_left(self) -> bool:
        return self.writer.transport.get_write_buffer_size() == 0

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 15)

    async def rest(self) -> bytes:
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := await asyncio.wait_for(self.reader.read(65536), 15):
                said += piece
        return said

    async def ended(self, seconds: float = 15) -> bool:
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(1), seconds) == b""
        return True


@contextlib.asynccontextmanager
async def serving(
    port: int, *, connections_max: int = 64, head_timeout_seconds: float = 20.0
) -> AsyncIterator[Served]:
    echo = Echo()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    listener = Listener(echo, connections_max=connections_max, head_timeout_seconds=head_timeout_seconds)
    await listener.listen(HOST, port, shared=False)
    try:
        yield Served(echo, listener, port, faults)
    finally:
        echo.release.set()
        listener.close()
        await listener.drain(5)
    assert not faults, faults


class _Received:
    """What `http.client` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.file.close = lambda: None  # type: ignore[method-assign]

    def makefile(self, *_: object) -> io.BytesIO:
        return self.file


def answers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The answers that stand one after the other in these bytes, as Python's own client reads them."""
    received = _Received(data)
    while received.file.tell() < len(data):
        reply = http.client.HTTPResponse(received)  # type: ignore[arg-type]
        reply.begin()
        yield reply.status, reply.read()
