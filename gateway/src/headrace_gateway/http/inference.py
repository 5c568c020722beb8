"""One inference request, at whichever endpoint: authenticate, admit, relay, settle.

What must stay true: whoever was admitted is settled exactly once, however the request ends; a plain answer's
first byte and a stream's last one leave after that.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from headrace_contracts.access import KeyScope
from headrace_contracts.usage import Ending, trace_of
from headrace_gateway.call import (
    AlreadyAnswered,
    Call,
    Caller,
    Lease,
    Meter,
)
from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.openai_reply import read_refusal
from headrace_gateway.dialects.responses_request import ResponsesRequest
from headrace_gateway.dialects.running_counts import prompt_alone
from headrace_gateway.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamUnavailable,
)
from headrace_gateway.guardrails.guardrail import About
from headrace_gateway.guardrails.guards import Guards
from headrace_gateway.guardrails.spoken import said_in
from headrace_gateway.http.attempt import Attempt
from headrace_gateway.http.authorization import relayed_lines
from headrace_gateway.http.bodies import Bodies, decoded
from headrace_gateway.http.candidates import Candidates
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.interruption import Interrupted, Interruption, Running, while_valid
from headrace_gateway.http.large_bodies import LargeBodies
from headrace_gateway.http.placement import Placement
from headrace_gateway.http.problems import InternalError
from headrace_gateway.http.relay import StreamRelay
from headrace_gateway.http.repeats import Recording, answer_again, idempotency_of
from headrace_gateway.http.responses import Responses
from headrace_gateway.http.served import NotBegun, Served, broken, interrupted, refused, unforeseen
from headrace_gateway.http.trace import Trace, Traces
from headrace_gateway.http.wire import Wire
from headrace_gateway.routing.attempts import Attempts
from headrace_gateway.routing.breaker import Breakers, RetryBudget
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.lines import Lines
from headrace_gateway.routing.upstream.client import Upstream
from headrace_gateway.routing.upstream.errors import UpstreamError
from headrace_gateway.routing.upstream.reply import Reply
from headrace_telemetry.logs import log_as_part_of

log = structlog.get_logger()

REFUSAL_BYTES_MAX = 64 * 1024
"""Of an engine's error: it has a message of some lines."""

DEPLOYMENTS_MAX = 3
"""That one request is tried at, one after the other."""


@dataclass(frozen=True, slots=True)
class InferenceBounds:
    body_bytes_max: int
    body_timeout_seconds: float
    reply_bytes_max: int
    request_timeout_seconds: float
    audio_body_bytes_max: int
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
        large_bodies: LargeBodies,
        lines: Lines,
        traces: Traces,
        guards: Guards,
    ) -> None:
        self._meter = meter
        self.responses = responses
        self._bounds = bounds
        self._bodies = Bodies(bounds, large_bodies)
        self._addresses = addresses
        self._guards = guards
        self.lines = lines
        self._traces = traces
        self.requests = meter.requests
        self._not_admitted = Running(deadline_seconds=bounds.request_timeout_seconds)
        self._placement = Placement(meter, lines, self._not_admitted)
        self.breakers, budget = Breakers(), RetryBudget()
        self._attempts = Attempts(upstream, self.breakers, budget)
        self._candidates = Candidates(deployments, self.breakers, budget, image_hosts=bounds.image_hosts)
        self.running = Running(deadline_seconds=bounds.request_timeout_seconds)

    def at(self, wire: Wire) -> Callable[[Exchange], Awaitable[None]]:
        """What answers at an endpoint."""
        if self._traces.spans is not None:
            return lambda exchange: self._traced(exchange, wire)
        return lambda exchange: self._answer(exchange, wire, self._traces.of(exchange))

    async def _traced(self, exchange: Exchange, wire: Wire) -> None:
        trace = self._traces.of(exchange)
        try:
            await self._answer(exchange, wire, trace)
        except ClientGone:
            raise
        except Exception as error:
            if trace is not None:
                problem = error if isinstance(error, GatewayError) else InternalError()
                trace.refused(problem.code, exchange.request_id, status=wire.shape.status(problem))
            raise

    async def _answer(self, exchange: Exchange, wire: Wire, trace: Trace | None) -> None:
        credentials = self._addresses.credentials(exchange, wire.secret(exchange))
        caller = await self._meter.authenticate(credentials, KeyScope.INFERENCE)
        conversation = None
        try:
            if exchange.may_be_long:
                async with while_valid(self._meter, credentials, self._not_admitted):
                    body = await wire.read(exchange, self._bodies, caller.org)
            else:
                body = await wire.read(exchange, self._bodies, caller.org)
            idempotency = idempotency_of(exchange, body)
            request = await decoded(body, self._bodies, caller.org, wire.decode)
            if isinstance(request, ResponsesRequest):
                conversation = await self.responses.conversation(request, caller, batched=credentials.batched)
                request = conversation.request
            calls = self._candidates.calls(
                exchange,
                request,
                credentials,
                caller,
                idempotency,
                trace=None if trace is None else trace.id,
            )
            about = About(caller.org, caller.project_id, request.model) if self._guards else None
            if about is not None:
                await self._guards.check(wire.texts(body), about)
        except GatewayError:
            # Whose key is no longer one learns nothing but that.
            await self._meter.authenticate(credentials, KeyScope.INFERENCE, anew=True)
            raise
        attempt: Attempt | None = None
        served = Served(Ending.GATEWAY_LOST)
        for tries_left in reversed(range(DEPLOYMENTS_MAX)):
            try:
                lease, call = await self._admit(exchange, caller, calls)
            except AlreadyAnswered as before:
                answer_again(exchange, wire.shape, before.answer)
                return
            except GatewayError:
                if attempt is None:
                    raise
                break  # why it can't be tried elsewhere is not why it failed
            trace_id = call.trace or trace_of(lease.id)
            exchange.admitted_as(lease.id)
            log_as_part_of(lease.id, trace_id)
            attempt = Attempt(
                exchange=exchange,
                wire=wire,
                request=request,
                deployment=call.deployment,
                org=caller.org,
                lease=lease,
                recording=None if idempotency is None else Recording(),
                watch=None if about is None else self._guards.watch(about),
                trace=trace,
                span=None if trace is None else trace.admitted(lease.id, call),
                again=call.again,
                outlives_client=credentials.batched,
            )
            served = await self._serve_and_settle(attempt)
            calls = (
                self._candidates.elsewhere(calls, call, org=caller.org, trace=trace_id)
                if served.elsewhere and tries_left
                else []
            )
            if not calls:
                break
        assert attempt is not None, "it is tried once at least"
        if conversation is not None:
            await conversation.keep()
        await self._finish(attempt, served)

    async def _serve_and_settle(self, attempt: Attempt) -> Served:
        served = Served(Ending.GATEWAY_LOST)
        try:
            served = await self._serve(attempt)
        finally:
            # Whatever cancels us now, the settlement goes on.
            settled = attempt.lease.settle(
                served.ending, usage=served.usage, answer=attempt.repeatable(served)
            )
            self.lines.freed(attempt.deployment)
            if attempt.span is not None:
                attempt.span.settled(attempt.lease, served)
        await settled
        return served

    async def _finish(self, attempt: Attempt, served: Served) -> None:
        if served.problem is not None:
            self.requests.told(served.problem.code)
        status = attempt.status(served)
        await attempt.finish(served)
        if attempt.trace is not None:
            attempt.trace.answered(attempt.lease.id, served, status=status)

    async def _admit(self, exchange: Exchange, caller: Caller, calls: Sequence[Call]) -> tuple[Lease, Call]:
        if len(calls) == 1 and calls[0].deployment.slots is None:
            return await self._meter.admit(calls[0]), calls[0]
        return await self._placement.admit(exchange, caller, calls)

    async def _serve(self, attempt: Attempt) -> Served:
        """Never raises but when it is cancelled: whatever happens is an ending."""
        try:
            watched = None if attempt.outlives_client else attempt.exchange
            async with Interruption(watched, attempt.lease, self.running):
                return await self._relay(attempt)
        except Interrupted as interruption:
            return interrupted(interruption.reason)
        except ClientGone:
            return Served(Ending.CLIENT_GONE)
        except NotBegun as failure:
            return refused(failure.error, elsewhere=True)
        except GatewayError as error:
            return refused(error)
        except UpstreamError as error:
            log.warning("reply_broken", request=attempt.lease.id, error=str(error))
            return broken(error)
        except Exception:
            log.exception("relay_failed", request=attempt.lease.id)
            return unforeseen()

    async def _relay(self, attempt: Attempt) -> Served:
        request, lease, deployment = attempt.request, attempt.lease, attempt.deployment
        reply = await self._begin(attempt)
        try:
            if request.streamed:
                relay = StreamRelay(
                    attempt.exchange,
                    reply,
                    lease,
                    request.reader(deployment, cached_tokens=reply.cached_tokens),
                    headers=attempt.headers(),
                    recording=attempt.recording,
                    watch=attempt.watch,
                )
                return await relay.run()
            return await self._whole(reply, attempt)
        finally:
            if not reply.left:
                reply.close()

    async def _begin(self, attempt: Attempt) -> Reply:
        """The engine's answer, when it has begun one. Raises `NotBegun` where another might."""
        deployment, lease = attempt.deployment, attempt.lease
        body = attempt.request.upstream_body(
            deployment, output_tokens_max=lease.output_tokens_max, org=attempt.org
        )
        try:
            reply = await self._attempts.begin_reply(
                lease,
                deployment,
                org=attempt.org,
                again=attempt.again,
                path=attempt.wire.path,
                headers=attempt.trace_lines() + relayed_lines(attempt.exchange, attempt.wire.headers),
                body=body,
                content_type=attempt.wire.content_type,
            )
            if reply.status == 200:
                return reply
            if reply.status >= 500:
                log.warning(
                    "upstream_refused", request=lease.id, deployment=deployment.id, status=reply.status
                )
            try:
                raise read_refusal(reply.status, await reply.read_all(bytes_max=REFUSAL_BYTES_MAX))
            finally:
                reply.close()
        except (UpstreamFailed, UpstreamBusy, UpstreamUnavailable) as error:
            raise NotBegun(error) from error

    async def _whole(self, reply: Reply, attempt: Attempt) -> Served:
        body = await reply.read_all(bytes_max=self._bounds.reply_bytes_max)
        try:
            client_body, usage = attempt.request.read_reply(body, attempt.deployment)
        except NoCompletion as error:
            log.warning("reply_unreadable", request=attempt.lease.id, error=str(error))
            raise UpstreamFailed("The model's answer could not be read.") from error
        if attempt.watch is not None and await attempt.watch.refuses(
            said_in(client_body, media_type=attempt.content_type)
        ):
            usage = None if usage is None else prompt_alone(usage)
            return Served(Ending.WITHHELD, usage=usage, rest=attempt.request.withheld(client_body))
        return Served(Ending.COMPLETED, usage=usage, rest=client_body)
