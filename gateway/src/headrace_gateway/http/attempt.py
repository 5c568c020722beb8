"""An admitted request at one deployment, and what its client is told of it."""

import msgspec
import structlog

from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Ending
from headrace_gateway.call import Lease
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.dialects.responses_request import ResponsesRequest
from headrace_gateway.guardrails.guards import AnswerWatch
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.heads import Headers
from headrace_gateway.http.lifetime import lifetime_headers
from headrace_gateway.http.problems import headers_of
from headrace_gateway.http.repeats import Recording
from headrace_gateway.http.served import Served
from headrace_gateway.http.trace import InferenceSpan, Trace
from headrace_gateway.http.wire import Wire

log = structlog.get_logger()


class Attempt(msgspec.Struct, frozen=True):
    """An admitted request and the client that waits for it."""

    exchange: Exchange
    wire: Wire
    request: InferenceRequest
    deployment: Deployment
    org: str
    lease: Lease
    recording: Recording | None
    trace: Trace | None
    span: InferenceSpan | None
    watch: AnswerWatch | None
    """Who looks at its answer, if anybody."""
    again: bool = False
    """Whether it was tried at another deployment before."""
    outlives_client: bool = False
    """Whether it is served to its end in any case, as whoever takes the client's place asks for its answer."""

    @property
    def content_type(self) -> str:
        return "text/event-stream; charset=utf-8" if self.request.streamed else self.request.reply_type

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

    def trace_lines(self) -> bytes:
        """Header lines by which the engine knows whose work this is."""
        return b"" if self.trace is None else self.trace.lines(self.span)

    def repeatable(self, served: Served) -> tuple[str, bytes] | None:
        """The whole answer as it may be given again, if it is one and may."""
        if self.recording is None or served.problem is not None or not served.rest:
            return None
        body = self.recording.with_rest(served.rest)
        return None if body is None else (self.content_type, body)

    def status(self, served: Served) -> int:
        """Of the answer; a stream that has begun has said 200, whatever comes of it."""
        problem = served.problem
        return 200 if problem is None or self.exchange.answered else self.wire.shape.status(problem)

    @property
    def events_given(self) -> int:
        """How many events of its stream the client has, where its dialect numbers them."""
        return self.request.final.events_given if isinstance(self.request, ResponsesRequest) else 0

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
            exchange.answer(self.status(served), headers_of(problem) + self.identity(), body)
            return
        rest = (
            served.rest if problem is None else shape.event(problem, self.lease.id, number=self.events_given)
        )
        try:
            await exchange.send(rest)
        except ClientGone:
            log.debug("client_gone_at_the_end", request=self.lease.id)
