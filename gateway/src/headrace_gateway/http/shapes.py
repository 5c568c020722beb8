"""How a refusal looks in each dialect: as an answer, and as the last event of a stream that has begun."""

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from headrace_gateway.dialects.sse import event, named_event
from headrace_gateway.errors import ContextLengthExceeded, GatewayError, InvalidRequest, LimitReached
from headrace_gateway.http import zai_codes
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.heads import Headers
from headrace_gateway.http.problems import body_of, details_of, fields_of, headers_of, message_of, status_of
from headrace_gateway.limits.headers import anthropic_headers, openai_headers
from headrace_gateway.limits.state import LimitState

_encode = msgspec.json.encode

ZAI_ROOTS = ("/api/paas/v4", "/api/coding/paas/v4")
ANTHROPIC_ROOTS = ("", "/api/anthropic")
"""Z.ai has Anthropic's dialect below a path of its own."""

ANTHROPIC_PATHS = (f"{ANTHROPIC_ROOTS[0]}/v1/messages", ANTHROPIC_ROOTS[1])
SHARED_PATHS = ("/v1/models",)
"""OpenAI's and Anthropic's: whose client asks there shows in a header that all of Anthropic's send."""

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    410: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Shape(Protocol):
    def status(self, error: GatewayError) -> int: ...

    def body(self, error: GatewayError, request_id: str | None = None) -> bytes: ...

    def event(self, error: GatewayError, request_id: str, *, number: int) -> bytes:
        """`number`: how many events the client has, for dialects that number them."""

    def identity(self, request_id: str) -> Headers:
        """The headers by which the dialect's clients find a request's id."""

    def limits(self, states: Sequence[LimitState]) -> Headers:
        """The headers in which its clients look for what they may still ask."""


class OpenAIShape:
    def status(self, error: GatewayError) -> int:
        return status_of(error)

    def body(self, error: GatewayError, request_id: str | None = None) -> bytes:  # noqa: ARG002 (in a header)
        return body_of(error)

    def event(self, error: GatewayError, request_id: str, *, number: int) -> bytes:  # noqa: ARG002
        return event(self.body(error, request_id))

    def identity(self, request_id: str) -> Headers:
        return [("x-request-id", request_id)]

    def limits(self, states: Sequence[LimitState]) -> Headers:
        return openai_headers(states)


class ResponsesShape(OpenAIShape):
    """OpenAI's, but that a stream of numbered events ends in one of them."""

    def event(self, error: GatewayError, request_id: str, *, number: int) -> bytes:  # noqa: ARG002
        fields = fields_of(error)
        del fields["type"]
        return named_event(b"error", _encode({"type": "error", "sequence_number": number} | fields))


class AnthropicShape:
    """Anthropic's own types by status; our stable code stands beside them."""

    def status(self, error: GatewayError) -> int:
        return status_of(error)

    def body(self, error: GatewayError, request_id: str | None = None) -> bytes:
        fields: dict[str, object] = {
            "type": ANTHROPIC_TYPES[self.status(error)],
            "message": _too_long(error) if isinstance(error, ContextLengthExceeded) else message_of(error),
            "code": error.code,
        }
        if isinstance(error, InvalidRequest) and error.param is not None:
            fields["param"] = error.param
        fields |= details_of(error)
        return _encode({"type": "error", "error": fields, "request_id": request_id})

    def event(self, error: GatewayError, request_id: str, *, number: int) -> bytes:  # noqa: ARG002
        return named_event(b"error", self.body(error, request_id))

    def identity(self, request_id: str) -> Headers:
        return [("x-request-id", request_id), ("request-id", request_id)]

    def limits(self, states: Sequence[LimitState]) -> Headers:
        return anthropic_headers(states, now_seconds=time.time())


class ZaiShape:
    """Z.ai's own codes; our stable one stands beside them."""

    def status(self, error: GatewayError) -> int:
        return zai_codes.status_of(error)

    def body(self, error: GatewayError, request_id: str | None = None) -> bytes:  # noqa: ARG002 (in a header)
        fields = {"code": zai_codes.code_of(error), "message": message_of(error), "type": error.code}
        return _encode({"error": fields})

    def event(self, error: GatewayError, request_id: str, *, number: int) -> bytes:  # noqa: ARG002
        return event(self.body(error, request_id))

    def identity(self, request_id: str) -> Headers:
        return [("x-request-id", request_id)]

    def limits(self, states: Sequence[LimitState]) -> Headers:
        return openai_headers(states)


OPENAI: Shape = OpenAIShape()
OPENAI_NUMBERED: Shape = ResponsesShape()
ANTHROPIC: Shape = AnthropicShape()
ZAI: Shape = ZaiShape()


def _too_long(error: ContextLengthExceeded) -> str:
    """In Anthropic's own words: its clients look for them to know that they must shorten the conversation, and by how
    much. An engine that has stopped counting at its context's end has counted more than that."""
    context_tokens = error.context_tokens
    if context_tokens is None:
        return f"prompt is too long: {message_of(error)}"
    prompt_tokens = max(error.prompt_tokens or 0, context_tokens + 1)
    return f"prompt is too long: {prompt_tokens} tokens > {context_tokens} maximum"


def refusal_headers(shape: Shape, error: GatewayError) -> Headers:
    limits = shape.limits(error.states) if isinstance(error, LimitReached) else []
    return headers_of(error) + limits


def identity_of(exchange: Exchange) -> Headers:
    """What an answer is known by that no model gave."""
    return shape_of(exchange).identity(exchange.request_id)


def shape_of(exchange: Exchange) -> Shape:
    """Of whatever is answered to a client, at a path that is known or not."""
    path = exchange.path
    if _is_below(path, ZAI_ROOTS):
        return ZAI
    if _is_below(path, ANTHROPIC_PATHS):
        return ANTHROPIC
    told = exchange.header("anthropic-version") is not None
    return ANTHROPIC if told and _is_below(path, SHARED_PATHS) else OPENAI


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
