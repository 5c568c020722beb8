"""One inference request, at whichever endpoint: authenticate, admit, relay, settle.

What must stay true: whoever was admitted is settled exactly once, however the request ends; a plain answer's
first byte and a stream's last one leave after that.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Ending
from headrace_gateway.call import (
    AlreadyAnswered,
    Call,
    Caller,
    Credentials,
    Idempotency,
    Lease,
    Meter,
)
from headrace_gateway.dialects.dialect import InferenceRequest, NoCompletion
from headrace_gateway.dialects.offer import check_offer
from headrace_gateway.dialects.openai_reply import read_refusal
from headrace_gateway.dialects.responses_request import ResponsesRequest
from headrace_gateway.errors import GatewayError, ModelNotFound, UpstreamFailed
from headrace_gateway.http.authorization import id_header, relayed_lines
from headrace_gateway.http.bodies import read_body
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.heads import Headers
from headrace_gateway.http.interruption import Interrupted, Interruption, Running
from headrace_gateway.http.lifetime import lifetime_headers
from headrace_gateway.http.problems import headers_of
from headrace_gateway.http.relay import StreamRelay
from headrace_gateway.http.repeats import Recording, answer_again, idempotency_of
from headrace_gateway.http.responses import Responses
from headrace_gateway.http.served import Served, broken, interrupted, refused, unforeseen
from headrace_gateway.http.wire import Wire
from headrace_gateway.routing.attempts import begin_reply
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.upstream.client import Upstream
from headrace_gateway.routing.upstream.errors import UpstreamError
from headrace_gateway.routing.upstream.reply import Reply

log = structlog.get_logger()

REFUSAL_BYTES_MAX = 64 * 1024
"""Of an engine's error: it has a message of some lines."""


@dataclass(frozen=True, slots=True)
class InferenceBounds:
    body_bytes_max: int
    body_timeout_seconds: float
    reply_bytes_max: int
    request_timeout_seconds: float
    image_hosts: frozenset[str] = frozenset()
    """From where engines may fetch images that a request names."""


class Inference:
    def __init__(
        self,
        meter: Meter,
        deployments: DeploymentsFile,
        upstream: Upstream,
        bounds: InferenceBounds,
        addresses: ClientAddresses,
        *,
        responses: Responses,
    ) -> None:
        self._meter = meter
        self._responses = responses
        self._deployments = deployments
        self._upstream = upstream
        self._bounds = bounds
        self._addresses = addresses
        self.running = Running(deadline_seconds=bounds.request_timeout_seconds)

    def at(self, wire: Wire) -> Callable[[Exchange], Awaitable[None]]:
        """What answers at an endpoint."""
        return lambda exchange: self._answer(exchange, wire)

    async def _answer(self, exchange: Exchange, wire: Wire) -> None:
        credentials = self._addresses.credentials(exchange, wire.secret(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.INFERENCE)
        conversation = None
        try:
            body = await read_body(exchange, self._bounds)
            idempotency = idempotency_of(exchange, body)
            request = wire.decode(body)
            if isinstance(request, ResponsesRequest):
                conversation = await self._responses.conversation(request, caller)
                request = conversation.request
            call = self._call(exchange, request, credentials, caller, idempotency)
        except GatewayError:
            # Whose key is no longer one learns nothing but that.
            await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)
            raise
        try:
            lease = await self._meter.admit(call)
        except AlreadyAnswered as before:
            answer_again(exchange, wire.shape, before.answer)
            return
        recording = None if idempotency is None else Recording()
        attempt = Attempt(exchange, wire, request, call.deployment, lease, recording)
        served = Served(Ending.GATEWAY_LOST)
        try:
            served = await self._serve(attempt)
        finally:
            # Whatever cancels us now, the settlement goes on.
            settled = lease.settle(served.ending, usage=served.usage, answer=attempt.repeatable(served))
        await settled
        if conversation is not None:
            await conversation.keep()
        await attempt.finish(served)

    def _call(
        self,
        exchange: Exchange,
        request: InferenceRequest,
        credentials: Credentials,
        caller: Caller,
        idempotency: Idempotency | None,
    ) -> Call:
        deployments = self._deployments.current.for_model(request.model, caller.org)
        if not deployments:
            raise ModelNotFound(request.model)
        deployment = deployments[0]
        check_offer(request, deployment, image_hosts=self._bounds.image_hosts)
        return Call(
            credentials=credentials,
            dialect=request.dialect,
            model_requested=request.model,
            deployment=deployment,
            prompt_tokens_max=request.prompt_tokens_max(deployment),
            output_tokens_max=request.output_tokens_max,
            streamed=request.streamed,
            choices=request.choices,
            once=request.once,
            session=id_header(exchange, "X-Session-Id"),
            task=id_header(exchange, "X-Task-Id"),
            task_attempt=id_header(exchange, "X-Task-Attempt"),
            end_user=request.end_user,
            idempotency=idempotency,
        )

    async def _serve(self, attempt: "Attempt") -> Served:
        """Never raises but when it is cancelled: whatever happens is an ending."""
        try:
            async with Interruption(attempt.exchange, attempt.lease, self.running):
                return await self._relay(attempt)
        except Interrupted as interruption:
            return interrupted(interruption.reason)
        except ClientGone:
            return Served(Ending.CLIENT_GONE)
        except GatewayError as error:
            return refused(error)
        except UpstreamError as error:
            log.warning("reply_broken", request=attempt.lease.id, error=str(error))
            return broken(error)
        except Exception:
            log.exception("relay_failed", request=attempt.lease.id)
            return unforeseen()

    async def _relay(self, attempt: "Attempt") -> Served:
        request, lease, deployment = attempt.request, attempt.lease, attempt.deployment
        reply = await begin_reply(
            self._upstream,
            lease,
            deployment,
            path=attempt.wire.path,
            headers=relayed_lines(attempt.exchange, attempt.wire.headers),
            body=request.upstream_body(deployment, output_tokens_max=lease.output_tokens_max),
        )
        try:
            if reply.status != 200:
                raise read_refusal(reply.status, await reply.read_all(bytes_max=REFUSAL_BYTES_MAX))
            if request.streamed:
                relay = StreamRelay(
                    attempt.exchange,
                    reply,
                    lease,
                    request.reader(deployment, cached_tokens=reply.cached_tokens),
                    headers=attempt.headers(),
                    recording=attempt.recording,
                )
                return await relay.run()
            return await self._whole(reply, attempt)
        finally:
            if not reply.left:
                reply.close()

    async def _whole(self, reply: Reply, attempt: "Attempt") -> Served:
        body = await reply.read_all(bytes_max=self._bounds.reply_bytes_max)
        try:
            client_body, usage = attempt.request.read_reply(body, attempt.deployment)
        except NoCompletion as error:
            log.warning("reply_unreadable", request=attempt.lease.id, error=str(error))
            raise UpstreamFailed("The model's answer could not be read.") from error
        if usage is None:
            log.error("usage_missing", request=attempt.lease.id, deployment=attempt.deployment.id)
        return Served(Ending.COMPLETED, usage=usage, rest=client_body)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An admitted request and the client that waits for it."""

    exchange: Exchange
    wire: Wire
    request: InferenceRequest
    deployment: Deployment
    lease: Lease
    recording: Recording | None

    @property
    def content_type(self) -> str:
        return "text/event-stream; charset=utf-8" if self.request.streamed else "application/json"

    def headers(self) -> Headers:
        return [
            ("content-type", self.content_type),
            ("cache-control", "no-cache"),
            *self.identity(),
        ]

    def identity(self) -> Headers:
        return [
            *self.wire.shape.identity(self.lease.id),
            ("x-headrace-revision", self.deployment.revision),
            *lifetime_headers(self.deployment),
            *self.wire.shape.limits(self.lease.limit_states),
        ]

    def repeatable(self, served: Served) -> tuple[str, bytes] | None:
        """The whole answer as it may be given again, if it is one and may."""
        if self.recording is None or served.problem is not None or not served.rest:
            return None
        body = self.recording.with_rest(served.rest)
        return None if body is None else (self.content_type, body)

    async def finish(self, served: Served) -> None:
        """Gives the client the rest."""
        exchange, shape, problem = self.exchange, self.wire.shape, served.problem
        if served.ending is Ending.CLIENT_GONE:
            return
        if problem is None and not exchange.answered:
            exchange.answer(200, self.headers(), served.rest)
            return
        if problem is not None and not exchange.answered:
            body = shape.body(problem, self.lease.id)
            exchange.answer(shape.status(problem), headers_of(problem) + self.identity(), body)
            return
        try:
            await exchange.send(served.rest if problem is None else shape.event(problem, self.lease.id))
        except ClientGone:
            log.debug("client_gone_at_the_end", request=self.lease.id)
