"""The inference endpoints: what differs between them, in one place; everything else treats them alike."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace_contracts.usage import Dialect
from headrace_gateway.dialects import anthropic_reply, anthropic_request, openai_reply, openai_request
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.http.authorization import api_key, bearer_token
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.shapes import ANTHROPIC, OPENAI, Shape


@dataclass(frozen=True, slots=True)
class Wire:
    """One endpoint."""

    path: str
    """Here and at the engine."""
    shape: Shape
    secret: Callable[[Exchange], str]
    decode: Callable[[bytes], InferenceRequest]
    read_reply: Callable[[bytes, str], tuple[bytes, bytes | None]]
    """The engine's whole reply as the client gets it, and its usage; raises `NoCompletion`."""


CHAT = Wire(
    path="/v1/chat/completions",
    shape=OPENAI,
    secret=bearer_token,
    decode=lambda body: openai_request.decode_request(body, Dialect.OPENAI_CHAT),
    read_reply=openai_reply.read_completion,
)

COMPLETIONS = Wire(
    path="/v1/completions",
    shape=OPENAI,
    secret=bearer_token,
    decode=lambda body: openai_request.decode_request(body, Dialect.OPENAI_COMPLETIONS),
    read_reply=openai_reply.read_completion,
)

MESSAGES = Wire(
    path="/v1/messages",
    shape=ANTHROPIC,
    secret=api_key,
    decode=anthropic_request.decode_messages,
    read_reply=anthropic_reply.read_message,
)
