"""Connections to engines, kept between requests."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace_gateway.routing.upstream.connection import Connection
from headrace_gateway.routing.upstream.errors import ConnectionsExhausted, ReplyTooSlow, Unreachable
from headrace_gateway.routing.upstream.gathering import Gathering
from headrace_gateway.routing.upstream.reply import Reply

LOOK_SECONDS = 0.25
"""One look at all connections is cheaper than timers for each reply; no deadline here needs to be finer."""


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Seconds. How long each part of an exchange may take before we give it up, at the next look."""

    connect: float
    first_byte: float
    """From the request's last byte to the reply's first: queueing and prefill of the engine."""
    idle: float
    """Between two bytes of a reply."""


@dataclass(frozen=True, slots=True)
class UpstreamBounds:
    connections_max: int
    """Per engine and worker process."""
    keep_idle_seconds: float
    """Shorter than the engine keeps them, so that we never write to one that it is just closing."""


class Upstream:
    """All engines that this process talks to. Not bound to requests; close it last."""

    def __init__(self, timeouts: UpstreamTimeouts, bounds: UpstreamBounds) -> None:
        self._timeouts = timeouts
        self._bounds = bounds
        self._origins: dict[str, Origin] = {}
        self._gathering: Gathering | None = None
        """There is one as soon as there is an engine, and the loop that asks it."""

    async def post(
        self,
        base_url: str,
        path: str,
        headers: bytes,
        body: bytes,
        content_type: bytes = b"application/json",
    ) -> Reply:
        """Sends a request and returns its reply when its head is there. `headers` are whole lines."""
        origin = self._origin(base_url)
        connection = await origin.connection(self._timeouts.connect)
        reply = connection.start(
            b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n%b"
            % (origin.prefix, path.encode(), origin.host_header, content_type, headers, len(body), body)
        )
        return await self._begun(reply)

    async def relay(
        self,
        base_url: str,
        request: bytes,
        headers: bytes,
        body: AsyncGenerator[bytes, None],
        *,
        framing: bytes,
    ) -> Reply:
        """Sends a request whose body goes on as it comes, and no further once the reply has begun.

        `request`: method and target; `framing`: the line that says how long the body is, empty for none.
        """
        origin = self._origin(base_url)
        connection = await origin.connection(self._timeouts.connect)
        method, target = request.split(b" ")
        reply = connection.start(
            b"%b %b%b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n%b%b\r\n"
            % (method, origin.prefix, target, origin.host_header, headers, framing and framing + b"\r\n"),
            last=True,
        )
        try:
            async with aclosing(body):
                await self._send(connection, reply, body, chunked=framing.startswith(b"transfer-encoding"))
        except BaseException:
            reply.close()
            raise
        return await self._begun(reply)

    async def _send(
        self, connection: Connection, reply: Reply, body: AsyncGenerator[bytes, None], *, chunked: bool
    ) -> None:
        async for piece in body:
            if reply.head_seen or connection.closed:
                return
            try:
                async with asyncio.timeout(self._timeouts.idle):
                    await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            except TimeoutError as error:
                raise ReplyTooSlow(f"nothing was taken for {self._timeouts.idle:g} s") from error
        if chunked:
            await connection.write(b"0\r\n\r\n")

    async def _begun(self, reply: Reply) -> Reply:
        reply.wait_seconds = self._timeouts.first_byte
        try:
            await reply.head()
        except BaseException:
            reply.close()
            raise
        reply.wait_seconds = self._timeouts.idle
        return reply

    def _origin(self, base_url: str) -> "Origin":
        origin = self._origins.get(base_url)
        if origin is None:
            if self._gathering is None:
                self._gathering = Gathering(asyncio.get_running_loop())
            origin = self._origins[base_url] = Origin.of(base_url, self._bounds, self._gathering)
        return origin

    def close(self) -> None:
        for origin in self._origins.values():
            origin.close()
        self._origins.clear()
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            gathering.close()


class Origin:
    """One engine address and its connections, the idle ones with the newest last."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        host_header: bytes,
        prefix: bytes,
        bounds: UpstreamBounds,
        gathering: Gathering,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._bounds = bounds
        # What a socket of TLS has are records, and the transport's to read.
        self._gathering = None if tls else gathering
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._looking: asyncio.TimerHandle | None = None
        self.host_header = host_header
        self.prefix = prefix

    @classmethod
    def of(cls, base_url: str, bounds: UpstreamBounds, gathering: Gathering) -> "Origin":
        parts = urlsplit(base_url)
        assert parts.scheme in ("http", "https"), f"engine address {base_url!r} is neither http nor https"
        assert parts.hostname, f"engine address {base_url!r} names no host"
        secure = parts.scheme == "https"
        return cls(
            host=parts.hostname,
            port=parts.port or (443 if secure else 80),
            tls=ssl.create_default_context() if secure else None,
            host_header=parts.netloc.rpartition("@")[2].encode(),
            prefix=parts.path.rstrip("/").encode(),
            bounds=bounds,
            gathering=gathering,
        )

    async def connection(self, timeout_seconds: float) -> Connection:
        """A kept connection, else a new one."""
        oldest = self._loop.time() - self._bounds.keep_idle_seconds
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since >= oldest:
                return connection
            connection.abort()
        if len(self._open) + self._connecting >= self._bounds.connections_max:
            raise ConnectionsExhausted(
                f"{self._bounds.connections_max} connections to {self._host} are in use"
            )
        self._connecting += 1
        try:
            async with asyncio.timeout(timeout_seconds):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop, self, self._gathering),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except TimeoutError as error:
            raise Unreachable(f"no connection within {timeout_seconds:g} s") from error
        except OSError as error:
            raise Unreachable(str(error)) from error
        finally:
            self._connecting -= 1
        if not connection.closed:
            self._open.add(connection)
            if self._looking is None:
                self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        return connection

    def take_back(self, connection: Connection) -> None:
        connection.idle_since = now = self._loop.time()
        self._idle.append(connection)
        # The oldest stand first; looking at one each time keeps up with what comes in.
        if self._idle[0].idle_since < now - self._bounds.keep_idle_seconds:
            self._idle.pop(0).abort()

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        for connection in list(self._open):
            connection.abort()

    def _look(self) -> None:
        now = self._loop.time()
        for connection in list(self._open):
            connection.look_at_the_clock(now)
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look) if self._open else None
