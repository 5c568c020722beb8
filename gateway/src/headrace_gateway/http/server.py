"""The server: accepts connections, keeps their clock, and stops in order.

What must stay true: after SIGTERM no connection is accepted, what runs may go on for the grace period, what
then still runs ends with an error event and a settlement, and only then does `serve` return; there are never
more connections than there are places, and as many as `REFUSED_MAX` that are being told so.
"""

import asyncio
import signal
import socket
from collections import OrderedDict
from dataclasses import dataclass
from email.utils import formatdate

import structlog

from headrace_gateway.http.connection import Application, ClientConnection
from headrace_gateway.http.router import Gateway

log = structlog.get_logger()

BACKLOG = 1024
"""Connections that wait to be accepted during a burst."""

TICK_SECONDS = 0.5
"""One look at all connections is cheaper than a timer for each request; no deadline here needs to be finer."""

REFUSED_MAX = 128
"""Connections without a place that are still read from, so that their clients read the refusal."""

HEAD_SECONDS = 1.0
"""A head comes in a packet or two. Who takes longer loses the place when there is no other; else a thousand that each send a
byte would keep all others out until `head_timeout_seconds` are over."""

LAST_WORDS_SECONDS = 5.0
"""After the grace: for settlements, error events and clients that read slowly."""

ABORTED_SECONDS = 1.0
"""For what was waiting for a client to learn that it is gone, and to settle."""


@dataclass(frozen=True, slots=True)
class Listening:
    host: str
    port: int
    connections_max: int
    head_timeout_seconds: float
    grace_seconds: float
    port_shared: bool = False
    """Whether other workers listen at the same port and the kernel shares connections out."""


class PortTaken(Exception):
    """Something else listens there."""


def check_port(host: str, port: int) -> None:
    """Workers share a port by design, so a second gateway would silently take half of the first one's requests."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(f"{host}:{port}: {error.strerror}") from error


class Listener:
    """All connections of this process."""

    def __init__(
        self, application: Application, *, connections_max: int, head_timeout_seconds: float
    ) -> None:
        self._application = application
        self._connections_max = connections_max
        self.head_timeout_seconds = head_timeout_seconds
        self.draining = False
        self.date_line = b""
        self._loop = asyncio.get_running_loop()
        self._connections: dict[ClientConnection, None] = {}
        self._refused: OrderedDict[ClientConnection, None] = OrderedDict()
        self.resting: OrderedDict[ClientConnection, None] = OrderedDict()
        self.beginning: OrderedDict[ClientConnection, None] = OrderedDict()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, *, shared: bool) -> None:
        self._tick()
        self._server = await self._loop.create_server(
            lambda: ClientConnection(self._application, self, self._loop),
            host,
            port,
            backlog=BACKLOG,
            reuse_port=shared,
        )

    async def drain(self, seconds: float) -> bool:
        """Accepts nothing more and waits for what runs; True when it all came to its end."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.draining = True
        for connection in list(self.resting):
            connection.close()
        if not self._connections:
            return True
        self._empty.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def abort(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        self.abort()

    # for connections

    def admit(self, connection: ClientConnection) -> bool:
        """Gives it a place, if need be that of the one that has rested longest, or has long been at a request's head."""
        if len(self._connections) - len(self._refused) >= self._connections_max and not self._free_a_place():
            if len(self._refused) >= REFUSED_MAX:
                # It has had the longest time to read why.
                self._drop(next(iter(self._refused)))
            self._refused[connection] = None
            self._connections[connection] = None
            return False
        self.resting[connection] = None
        self._connections[connection] = None
        return True

    def forget(self, connection: ClientConnection) -> None:
        self.resting.pop(connection, None)
        self.beginning.pop(connection, None)
        self._refused.pop(connection, None)
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def _free_a_place(self) -> bool:
        longest = next(iter(self.resting), None)
        if longest is None:
            longest = next(iter(self.beginning), None)
            began_before = self._loop.time() - HEAD_SECONDS
            if longest is None or longest.deadline - self.head_timeout_seconds > began_before:
                return False
        self._drop(longest)
        return True

    def _drop(self, connection: ClientConnection) -> None:
        """At once: what asyncio tells it later would come too late for who is to have its place."""
        connection.abort()
        self.forget(connection)

    def _tick(self) -> None:
        now = self._loop.time()
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection in [each for each in self._connections if each.deadline < now]:
            connection.overdue()
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)


async def serve(gateway: Gateway, listening: Listening, *, stop: asyncio.Event) -> bool:
    """Serves until `stop` is set; True when every request came to its end by then."""
    listener = Listener(
        gateway,
        connections_max=listening.connections_max,
        head_timeout_seconds=listening.head_timeout_seconds,
    )
    try:
        try:
            await listener.listen(listening.host, listening.port, shared=listening.port_shared)
        except OSError as error:
            raise PortTaken(f"{listening.host}:{listening.port}: {error.strerror}") from error
        await stop.wait()
        gateway.drain()
        finished = await listener.drain(listening.grace_seconds)
        if not finished:
            log.warning("grace_over", running=gateway.interrupt())
            finished = await listener.drain(LAST_WORDS_SECONDS)
        if not finished:
            listener.abort()
            finished = await listener.drain(ABORTED_SECONDS)
        return finished
    finally:
        listener.close()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
