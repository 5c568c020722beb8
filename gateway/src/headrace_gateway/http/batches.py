"""Files and batches, which are billing's, at the one address that clients know.

What must stay true: billing is never shown a key, only a token that stands for one that was looked at here, and nothing
goes on once that one has ended; no more of a file is held than a connection reads ahead; no organisation takes all the connections to billing, and none is kept by a
client that dawdles.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from headrace_contracts.access import KeyScope
from headrace_contracts.batch_tokens import batch_token
from headrace_gateway.call import Meter
from headrace_gateway.errors import GatewayError, Overloaded
from headrace_gateway.http.authorization import bearer_token, relayed_lines
from headrace_gateway.http.bodies import check_encoding
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.interruption import Running, while_valid
from headrace_gateway.http.pace import Pace
from headrace_gateway.http.problems import BodyTooSlow, DeadlineReached, MethodNotAllowed, Revoked
from headrace_gateway.http.shapes import identity_of
from headrace_gateway.routing.upstream.client import Upstream
from headrace_gateway.routing.upstream.errors import UpstreamError
from headrace_gateway.routing.upstream.reply import Reply

PATHS = re.compile(r"/v1/(?:files|batches)(?:/[A-Za-z0-9_-]{1,100}(?:/(?:content|cancel))?)?", re.ASCII)

TOKEN_SECONDS = 60
"""Billing looks at it when a request begins."""

GRACE_SECONDS = 60.0
BYTES_A_SECOND_MIN = 64 * 1024
"""Of what a client sends or reads, after that grace: a file of 100 MiB takes less than half an hour."""

DEADLINE_SECONDS = 7200.0
"""Of one on its way: more than its pace allows to the largest."""

METHODS = ("GET", "POST", "DELETE")
"""That billing answers there."""

RELAYED = ("content-type", "accept")

log = structlog.get_logger()


class BatchesUnavailable(GatewayError):
    """Billing, which has files and batches, can't be reached."""

    code = "batches_unavailable"
    retry_after_seconds = 2.0


class Batches:
    def __init__(
        self,
        meter: Meter,
        upstream: Upstream,
        addresses: ClientAddresses,
        *,
        billing_url: str,
        secret: str,
        org_requests_max: int,
    ) -> None:
        """`upstream`: to billing alone; `secret`: the ingest token; `org_requests_max`: at once, of an organisation."""
        self._meter = meter
        self._upstream = upstream
        self._addresses = addresses
        self._billing_url = billing_url
        self._secret = secret
        self._org_requests_max = org_requests_max
        self._running: Counter[str] = Counter()
        self._on_their_way = Running(deadline_seconds=DEADLINE_SECONDS)

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.method not in METHODS:
            raise MethodNotAllowed(", ".join(METHODS))
        key = bearer_token(exchange)
        credentials = self._addresses.credentials(exchange, key)
        caller = await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)
        check_encoding(exchange)
        try:
            with self._share(caller.org):
                async with while_valid(self._meter, credentials, self._on_their_way):
                    await self._relay(exchange, key)
        except (Revoked, DeadlineReached):
            if not exchange.answered:
                raise
            exchange.break_off()

    @contextmanager
    def _share(self, org: str) -> Iterator[None]:
        if self._running[org] >= self._org_requests_max:
            raise Overloaded(
                "Too many files and batches of your organisation are on their way through this gateway."
            )
        self._running[org] += 1
        try:
            yield
        finally:
            self._running[org] -= 1
            if not self._running[org]:
                del self._running[org]

    async def _relay(self, exchange: Exchange, key: str) -> None:
        try:
            reply = await self._upstream.relay(
                self._billing_url,
                _request(exchange),
                self._headers(exchange, key),
                exchange.pieces(_pace()),
                framing=exchange.framing,
            )
        except TimeoutError:
            raise BodyTooSlow("The request's body did not arrive in time.") from None
        except UpstreamError as error:
            log.warning("billing_unreachable", error=str(error))
            raise BatchesUnavailable from error
        try:
            await self._answer(exchange, reply)
        finally:
            reply.close()

    def _headers(self, exchange: Exchange, key: str) -> bytes:
        token = batch_token(
            hashlib.sha256(key.encode()).hexdigest(),
            self._secret,
            expires_at=int(time.time()) + TOKEN_SECONDS,
        )
        return f"authorization: Bearer {token}\r\n".encode() + relayed_lines(exchange, RELAYED)

    async def _answer(self, exchange: Exchange, reply: Reply) -> None:
        begun, sent_bytes, pace = False, 0, _pace()
        headers = [("content-type", reply.content_type), *identity_of(exchange)]
        if reply.retry_after is not None:
            headers.append(("retry-after", reply.retry_after))
        try:
            while piece := await reply.read():
                if not begun:
                    exchange.begin(reply.status, headers)
                    begun = True
                sent_bytes += len(piece)
                if not exchange.push(piece):
                    async with pace.waiting(sent_bytes):
                        await exchange.room()
        except TimeoutError:
            log.info("file_read_too_slowly", request=exchange.request_id, sent_bytes=sent_bytes)
            exchange.break_off()
            return
        except UpstreamError as error:
            log.warning("billing_broke_off", error=str(error))
            if not begun:
                raise BatchesUnavailable from error
            exchange.break_off()
            return
        if not begun:
            exchange.answer(reply.status, headers, b"")


def _pace() -> Pace:
    return Pace(grace_seconds=GRACE_SECONDS, bytes_a_second_min=BYTES_A_SECOND_MIN)


def _request(exchange: Exchange) -> bytes:
    """Method and target; the path is one of `PATHS`, so it needs no quoting."""
    _, mark, query = exchange.target.partition(b"?")
    return b"%b %b%b%b" % (exchange.method.encode(), exchange.path.encode(), mark, query)
