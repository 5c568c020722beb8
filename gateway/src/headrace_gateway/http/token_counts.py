"""How long a prompt is, told by the engine that would read it: Anthropic's `count_tokens`, Z.ai's `tokenizer`.

What must stay true: nothing is generated, so nothing is held or charged; but it takes a key that may name the
model, as the engine's work is not for strangers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment, Task
from headrace_gateway.call import Meter
from headrace_gateway.dialects import anthropic_request, zai_tokenizer
from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.media import Media, check_media
from headrace_gateway.dialects.offer import check_task
from headrace_gateway.dialects.openai_reply import read_refusal
from headrace_gateway.errors import ModelNotFound, UpstreamBusy, UpstreamFailed, UpstreamTimedOut
from headrace_gateway.http.authorization import api_key, bearer_token, relayed_lines
from headrace_gateway.http.bodies import Bodies, decoded, read_body
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.lifetime import lifetime_headers
from headrace_gateway.http.shapes import identity_of
from headrace_gateway.http.trace import client_lines
from headrace_gateway.http.wire import ANTHROPIC_HEADERS
from headrace_gateway.routing.attempts import ATTEMPTS_MAX, PAUSE_SECONDS, UNAVAILABLE
from headrace_gateway.routing.choice import in_order, named_by
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.upstream.client import Upstream
from headrace_gateway.routing.upstream.errors import (
    ConnectionsExhausted,
    ReplyTooSlow,
    StaleConnection,
    Unreachable,
    UpstreamError,
)
from headrace_gateway.routing.upstream.reply import Reply

log = structlog.get_logger()

REPLY_BYTES_MAX = 16 * 1024 * 1024
"""Of a count or an error a few lines; but a tokenizer names every token of a context of a million."""


class CountRequest(Protocol):
    @property
    def model(self) -> str: ...
    @property
    def media(self) -> Media: ...
    def upstream_body(self, deployment: Deployment) -> bytes: ...
    def read_reply(self, body: bytes) -> bytes:
        """What the client gets; raises `NoCompletion`."""


@dataclass(frozen=True, slots=True)
class Counting:
    """One endpoint."""

    path: str
    """At the engine."""
    secret: Callable[[Exchange], str]
    decode: Callable[[bytes], CountRequest]
    headers: tuple[str, ...] = ()


MESSAGE_TOKENS = Counting(
    path="/v1/messages/count_tokens",
    secret=api_key,
    decode=anthropic_request.decode_count,
    headers=ANTHROPIC_HEADERS,
)

ZAI_TOKENS = Counting(
    path="/tokenize",
    secret=bearer_token,
    decode=lambda body: zai_tokenizer.decode_tokenizer(body, clears_thinking=True),
)

# As chats there: earlier thinking stays in the prompt.
ZAI_CODING_TOKENS = Counting(
    path="/tokenize",
    secret=bearer_token,
    decode=lambda body: zai_tokenizer.decode_tokenizer(body, clears_thinking=False),
)


class TokenCounts:
    def __init__(
        self,
        meter: Meter,
        deployments: DeploymentsFile,
        upstream: Upstream,
        bodies: Bodies,
        addresses: ClientAddresses,
        *,
        image_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._meter = meter
        self._deployments = deployments
        self._upstream = upstream
        self._bodies = bodies
        self._addresses = addresses
        self._image_hosts = image_hosts

    def at(self, counting: Counting) -> Callable[[Exchange], Awaitable[None]]:
        """What answers at an endpoint."""
        return lambda exchange: self._answer(exchange, counting)

    async def _answer(self, exchange: Exchange, counting: Counting) -> None:
        credentials = self._addresses.credentials(exchange, counting.secret(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)
        body = await read_body(exchange, self._bodies, caller.org)
        request = await decoded(body, self._bodies, caller.org, counting.decode)
        named = self._deployments.current.for_model(request.model, caller.org)
        now = time.time()
        ordered = in_order(named, org=caller.org, project=caller.project_id, affinity=lambda: None, now=now)
        found = named_by(ordered, caller.may_name, now=now)
        if not found or not caller.may_name(found[0]):
            raise ModelNotFound(request.model)
        check_task(found[0], Task.GENERATE)
        check_media(request.media, found[0], hosts=self._image_hosts)
        lines = client_lines(exchange) + relayed_lines(exchange, counting.headers)
        counted = await self._count(found[0], counting, request, lines)
        headers = [("content-type", "application/json"), ("x-headrace-revision", found[0].revision)]
        exchange.answer(200, headers + identity_of(exchange) + lifetime_headers(found[0]), counted)

    async def _count(
        self, deployment: Deployment, counting: Counting, request: CountRequest, headers: bytes
    ) -> bytes:
        try:
            reply = await self._ask(deployment, counting.path, headers, request.upstream_body(deployment))
            try:
                body = await reply.read_all(bytes_max=REPLY_BYTES_MAX)
            finally:
                reply.close()
        except ConnectionsExhausted as error:
            raise UpstreamBusy from error
        except ReplyTooSlow as error:
            raise UpstreamTimedOut("The model did not answer in time.") from error
        except UpstreamError as error:
            log.warning("count_failed", deployment=deployment.id, error=str(error))
            raise UpstreamFailed("The model could not be reached.") from error
        if reply.status != 200:
            raise read_refusal(reply.status, body)
        try:
            return request.read_reply(body)
        except NoCompletion as error:
            log.warning("count_unreadable", deployment=deployment.id, error=str(error))
            raise UpstreamFailed("The model's answer could not be read.") from error

    async def _ask(self, deployment: Deployment, path: str, headers: bytes, body: bytes) -> Reply:
        """Nothing was generated, so it may be asked again as long as no reply has come."""
        for _ in range(1, ATTEMPTS_MAX):
            try:
                reply = await self._upstream.post(deployment.url, path, headers, body)
            except (Unreachable, StaleConnection):
                pass
            else:
                if reply.status not in UNAVAILABLE:
                    return reply
                reply.close()
            await asyncio.sleep(PAUSE_SECONDS)
        return await self._upstream.post(deployment.url, path, headers, body)
