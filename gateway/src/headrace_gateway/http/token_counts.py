"""`POST /v1/messages/count_tokens`: how long a prompt is, told by the engine that would read it.

What must stay true: nothing is generated, so nothing is held or charged; but it takes a key that may name the
model, as the engine's work is not for strangers.
"""

import asyncio

import structlog

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment
from headrace_gateway.call import Meter
from headrace_gateway.dialects.anthropic_reply import read_count
from headrace_gateway.dialects.anthropic_request import CountRequest, decode_count
from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.openai_reply import read_refusal
from headrace_gateway.errors import ModelNotFound, UpstreamBusy, UpstreamFailed, UpstreamTimedOut
from headrace_gateway.http.authorization import api_key, trace_line
from headrace_gateway.http.bodies import BodyBounds, read_body
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.lifetime import lifetime_headers
from headrace_gateway.routing.attempts import ATTEMPTS_MAX, PAUSE_SECONDS, UNAVAILABLE
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

PATH = "/v1/messages/count_tokens"

REPLY_BYTES_MAX = 64 * 1024
"""Of a count or an error: a few lines."""


class TokenCounts:
    def __init__(
        self,
        meter: Meter,
        deployments: DeploymentsFile,
        upstream: Upstream,
        bounds: BodyBounds,
        addresses: ClientAddresses,
    ) -> None:
        self._meter = meter
        self._deployments = deployments
        self._upstream = upstream
        self._bounds = bounds
        self._addresses = addresses

    async def answer(self, exchange: Exchange) -> None:
        credentials = self._addresses.credentials(exchange, api_key(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)
        request = decode_count(await read_body(exchange, self._bounds))
        found = self._deployments.current.for_model(request.model, caller.org)
        if not found or not caller.may_name(found[0]):
            raise ModelNotFound(request.model)
        body = await self._count(found[0], request, trace_line(exchange))
        headers = [("content-type", "application/json"), ("x-headrace-revision", found[0].revision)]
        exchange.answer(200, headers + lifetime_headers(found[0]), body)

    async def _count(self, deployment: Deployment, request: CountRequest, headers: bytes) -> bytes:
        try:
            reply = await self._ask(deployment, headers, request.upstream_body(deployment))
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
            return read_count(body)
        except NoCompletion as error:
            log.warning("count_unreadable", deployment=deployment.id, error=str(error))
            raise UpstreamFailed("The model's answer could not be read.") from error

    async def _ask(self, deployment: Deployment, headers: bytes, body: bytes) -> Reply:
        """Nothing was generated, so it may be asked again as long as no reply has come."""
        for _ in range(1, ATTEMPTS_MAX):
            try:
                reply = await self._upstream.post(deployment.url, PATH, headers, body)
            except (Unreachable, StaleConnection):
                pass
            else:
                if reply.status not in UNAVAILABLE:
                    return reply
                reply.close()
            await asyncio.sleep(PAUSE_SECONDS)
        return await self._upstream.post(deployment.url, PATH, headers, body)
