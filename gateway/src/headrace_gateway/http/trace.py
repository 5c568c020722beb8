"""A request's trace: taken over from the client or begun here, and led on to the engine.

What must stay true: a client's trace goes on to the engine whether or not this gateway has a collector; without either
a request costs one look for a header. A trace that begins here has the id of the request, without its hyphens, so one
leads to the other without anything having been stored.
"""

import time
from urllib.parse import urlsplit

from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Ending, trace_of
from headrace_gateway.call import Call, Lease
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.served import Served
from headrace_gateway.metrics.requests import OPERATIONS, PROVIDER
from headrace_telemetry.traces import (
    AttributeValue,
    Parent,
    Side,
    Span,
    Spans,
    new_span_id,
    read_traceparent,
    write_traceparent,
)

STATE_CHARACTERS_MAX = 512
"""Of a `tracestate`: what W3C asks to carry on at least."""


class Traces:
    def __init__(self, spans: Spans | None) -> None:
        self.spans = spans

    def of(self, exchange: Exchange) -> "Trace | None":
        """Null where the client sent none and no collector wants one."""
        parent = _parent_of(exchange)
        if parent is None and self.spans is None:
            return None
        return Trace(exchange, parent, self.spans)


def client_lines(exchange: Exchange) -> bytes:
    """The header lines that carry a client's trace on, where nothing of ours is to stand in it."""
    parent = _parent_of(exchange)
    return b"" if parent is None else _lines(parent.trace, parent.span, parent.sampled, _state_line(exchange))


def trace_of_refused(exchange: Exchange) -> str:
    """The trace of a request that was not admitted: the client's, or that which begins with it."""
    parent = _parent_of(exchange)
    return trace_of(exchange.request_id) if parent is None else parent.trace


class Trace:
    __slots__ = ("_began_ns", "_exchange", "_parent", "_sampled", "_spans", "_state", "id", "span")

    def __init__(self, exchange: Exchange, parent: Parent | None, spans: Spans | None) -> None:
        self.id = None if parent is None else parent.trace
        """Null until the request that it begins with has its own."""
        self._exchange = exchange
        self._parent = parent
        self._spans = spans
        self._sampled: bool | None = None
        self.span = "" if spans is None else new_span_id()
        """This gateway's own, of the whole request."""
        self._state = b"" if parent is None else _state_line(exchange)
        self._began_ns = 0 if spans is None else time.time_ns()

    def admitted(self, request_id: str, call: Call) -> "InferenceSpan | None":
        """Null where nobody wants to know."""
        if self.id is None:
            self.id = trace_of(request_id)
        if self._spans is None:
            return None
        self._sample(self.id, self._spans)
        return InferenceSpan(self, call)

    def lines(self, span: "InferenceSpan | None") -> bytes:
        """The header lines by which the engine knows whose work it does."""
        assert self.id is not None, "before it was admitted"
        if span is not None:
            return _lines(self.id, span.id, self.sampled, self._state)
        assert self._parent is not None, "nobody's trace"
        return _lines(self.id, self._parent.span, self._parent.sampled, self._state)

    @property
    def sampled(self) -> bool:
        return bool(self._sampled)

    def end(self, span: Span) -> None:
        if self._spans is not None and self.sampled:
            self._spans.end(span)

    def answered(self, request_id: str, served: Served, *, status: int) -> None:
        """The client has its answer, or has gone."""
        self._end(_error_of(served), status=status, request_id=request_id)

    def refused(self, code: str, request_id: str, *, status: int) -> None:
        """Before it was admitted."""
        if self.id is None:
            self.id = trace_of(request_id)
        if self._spans is not None:
            self._sample(self.id, self._spans)
        self._end(code, status=status, request_id=request_id)

    def _sample(self, trace: str, spans: Spans) -> None:
        if self._sampled is None:
            self._sampled = spans.samples(trace, self._parent, self._exchange.path)

    def _end(self, error: str | None, *, status: int, request_id: str) -> None:
        if not self.sampled or self.id is None:
            return
        attributes: dict[str, AttributeValue] = {
            "http.request.method": self._exchange.method,
            "http.route": self._exchange.path,
            "http.response.status_code": status,
            "headrace.request.id": request_id,
        }
        if error is not None:
            attributes["error.type"] = error
        self.end(
            Span(
                name=f"{self._exchange.method} {self._exchange.path}",
                side=Side.SERVER,
                trace=self.id,
                id=self.span,
                parent=None if self._parent is None else self._parent.span,
                began_ns=self._began_ns,
                ended_ns=time.time_ns(),
                attributes=attributes,
                error=error if status >= 500 else None,
            )
        )


class InferenceSpan:
    """The work of one deployment for a request, with the attributes that the conventions for generative AI name."""

    __slots__ = ("_began_ns", "_call", "_trace", "id")

    def __init__(self, trace: Trace, call: Call) -> None:
        self.id = new_span_id()
        self._trace = trace
        self._call = call
        self._began_ns = time.time_ns()

    def settled(self, lease: Lease, served: Served) -> None:
        trace, call = self._trace, self._call
        if not trace.sampled or trace.id is None:
            return
        operation = OPERATIONS[call.dialect]
        error = _error_of(served)
        attributes = _asked(call, operation) | _used(lease) | _served_at(call.deployment)
        if error is not None:
            attributes["error.type"] = error
        trace.end(
            Span(
                name=f"{operation} {call.model_requested}",
                side=Side.CLIENT,
                trace=trace.id,
                id=self.id,
                parent=trace.span,
                began_ns=self._began_ns,
                ended_ns=time.time_ns(),
                attributes=attributes,
                error=error,
            )
        )


def _asked(call: Call, operation: str) -> dict[str, AttributeValue]:
    asked: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": call.model_requested,
        "gen_ai.request.stream": call.streamed,
        "gen_ai.request.max_tokens": call.output_tokens_max,
        "gen_ai.request.choice.count": call.choices if call.choices != 1 else None,
        "gen_ai.conversation.id": call.session,
        "headrace.dialect": call.dialect.value,
        "headrace.task.id": call.task,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _used(lease: Lease) -> dict[str, AttributeValue]:
    tokens = lease.tokens
    used: dict[str, AttributeValue] = {
        "gen_ai.response.id": lease.id,
        "gen_ai.usage.input_tokens": tokens.input,
        "gen_ai.usage.cache_read.input_tokens": tokens.cache_read,
        "gen_ai.usage.output_tokens": tokens.output,
        "gen_ai.usage.reasoning.output_tokens": tokens.reasoning,
        "headrace.request.id": lease.id,
    }
    if lease.first_token_us is not None:
        used["gen_ai.response.time_to_first_chunk"] = lease.first_token_us / 1_000_000
    return used


def _served_at(deployment: Deployment) -> dict[str, AttributeValue]:
    parts = urlsplit(deployment.url)
    served: dict[str, AttributeValue] = {
        "gen_ai.response.model": deployment.model,
        "headrace.deployment.id": deployment.id,
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }
    return served


def _error_of(served: Served) -> str | None:
    if served.problem is not None:
        return served.problem.code
    return None if served.ending is Ending.COMPLETED else served.ending.value


def _parent_of(exchange: Exchange) -> Parent | None:
    """What the client's trace has come to, where it sent one that can be read."""
    sent = exchange.header("traceparent")
    return None if sent is None else read_traceparent(sent)


def _lines(trace: str, span: str, sampled: bool, state: bytes) -> bytes:
    return b"traceparent: %b\r\n%b" % (write_traceparent(trace, span, sampled=sampled).encode(), state)


def _state_line(exchange: Exchange) -> bytes:
    state = exchange.header("tracestate")
    if state is None or len(state) > STATE_CHARACTERS_MAX or not state.isprintable() or not state.isascii():
        return b""
    return b"tracestate: %b\r\n" % state.encode()
