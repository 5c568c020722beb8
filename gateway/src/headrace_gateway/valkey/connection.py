"""The gateway's Valkey client: one connection that pipelines, dialled again with backoff when it is lost.

On the hot path the client is what costs, which is why it is our own: a call is a packed command and a future.
While there is no connection a call fails at once; nothing is queued for a Valkey that may never come back.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from headrace_gateway.valkey.errors import ValkeyConnectionLost, ValkeyError, ValkeyUnavailable
from headrace_gateway.valkey.wire import Then, Wire

log = structlog.get_logger()

REDIAL_SECONDS_MIN = 0.05
REDIAL_SECONDS_MAX = 1.0  # an outage ends at most this much later for us than for Valkey

# Some 40 requests' calls a connection per millisecond of Valkey; more means that it is not keeping up.
OUTSTANDING_MAX = 8192

TIMEOUT_SECONDS = 2.0  # a script takes well under a millisecond; longer is an outage


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    database: int
    username: str | None
    password: str | None
    tls: bool

    def __repr__(self) -> str:
        return f"Address({self.host}:{self.port}/{self.database})"  # never the password


def parse_url(url: str) -> Address:
    """`redis[s]://` or `valkey[s]://[user:password@]host[:port][/database]`."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "valkey", "valkeys"} or parts.hostname is None:
        raise ValueError("a Valkey URL looks like redis://[user:password@]host[:port][/database]")
    return Address(
        host=parts.hostname,
        port=parts.port or 6379,
        database=int(parts.path.strip("/") or 0),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme in {"rediss", "valkeys"},
    )


class Valkey:
    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        outstanding_max: int = OUTSTANDING_MAX,
        before_sending: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_sending`: what must be done before any call leaves that was made until then."""
        self._address = parse_url(url)
        self._before_sending = before_sending
        self._timeout_seconds = timeout_seconds
        self._outstanding_max = outstanding_max
        self._wire: Wire | None = None
        self._dialled_once = asyncio.Event()
        self._dialling: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._wire is not None and not self._wire.closed.done()

    @property
    def calls_outstanding(self) -> int:
        return 0 if self._wire is None else self._wire.outstanding

    async def start(self) -> None:
        """Returns after the first attempt, whether or not it succeeded."""
        assert self._dialling is None
        self._dialling = asyncio.create_task(self._keep_connected())
        await self._dialled_once.wait()

    async def close(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dialling
        if self._wire is not None:
            wire, self._wire = self._wire, None
            wire.close()
            await wire.closed

    def call(self, *command: Any) -> asyncio.Future[Any]:
        """Sends one command (strings, bytes, integers); its future yields the reply, strings as bytes.

        Raises `ValkeyUnavailable` at once, and the future the other `ValkeyError`s.
        """
        wire = self._wire
        if wire is None:
            raise ValkeyUnavailable("not connected")
        return wire.call(command)

    def send(self, packed: bytes, then: Then) -> None:
        """The same for a command that is packed already: `Wire.send`."""
        wire = self._wire
        if wire is None:
            raise ValkeyUnavailable("not connected")
        wire.send(packed, then)

    async def _keep_connected(self) -> None:
        wait = REDIAL_SECONDS_MIN
        while True:
            try:
                wire = await self._dial()
            except (OSError, ValkeyError) as error:
                log.warning("valkey_unreachable", address=repr(self._address), error=str(error))
                self._dialled_once.set()
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the gateways out
                wait = min(wait * 2, REDIAL_SECONDS_MAX)
                continue
            wait = REDIAL_SECONDS_MIN
            self._wire = wire
            self._dialled_once.set()
            await asyncio.shield(wire.closed)
            self._wire = None
            log.warning("valkey_connection_lost", address=repr(self._address))
            # A Valkey that accepts and drops at once must not be dialled in a tight loop.
            await asyncio.sleep(REDIAL_SECONDS_MIN)

    async def _dial(self) -> Wire:
        address = self._address
        context = ssl.create_default_context() if address.tls else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                _, wire = await loop.create_connection(
                    lambda: Wire(
                        timeout_seconds=self._timeout_seconds,
                        outstanding_max=self._outstanding_max,
                        before_sending=self._before_sending,
                    ),
                    address.host,
                    address.port,
                    ssl=context,
                )
        except TimeoutError as error:
            raise ValkeyConnectionLost("dialling timed out") from error
        greeting: list[asyncio.Future[Any]] = []
        if address.password is not None:
            user = (address.username,) if address.username else ()
            greeting.append(wire.call(("AUTH", *user, address.password)))
        if address.database:
            greeting.append(wire.call(("SELECT", address.database)))
        greeting.append(wire.call(("PING",)))  # LOADING and a wrong password show here, not at the first call
        try:
            replies = await asyncio.gather(*greeting, return_exceptions=True)
        except asyncio.CancelledError:
            wire.close()
            raise
        for reply in replies:
            if isinstance(reply, BaseException):
                wire.close()
                raise reply
        return wire
