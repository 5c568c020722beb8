"""The inference endpoints: what differs between them, in one place; everything else treats them alike."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace_contracts.usage import Dialect
from headrace_gateway.dialects import (
    anthropic_request,
    embeddings,
    openai_request,
    responses_request,
    zai_request,
)
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.http.authorization import api_key, bearer_token
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.shapes import ANTHROPIC, OPENAI, ZAI, Shape


@dataclass(frozen=True, slots=True)
class Wire:
    """One endpoint."""

    path: str
    """At the engine."""
    shape: Shape
    secret: Callable[[Exchange], str]
    decode: Callable[[bytes], InferenceRequest]
    headers: tuple[str, ...] = ("x-session-id",)
    """The client's headers that the engine gets too: Serve may keep a session at one replica."""


ANTHROPIC_HEADERS = ("anthropic-version", "anthropic-beta")

CHAT = Wire(
    path="/v1/chat/completions",
    shape=OPENAI,
    secret=bearer_token,
    decode=lambda body: openai_request.decode_request(body, Dialect.OPENAI_CHAT),
)

COMPLETIONS = Wire(
    path="/v1/completions",
    shape=OPENAI,
    secret=bearer_token,
    decode=lambda body: openai_request.decode_request(body, Dialect.OPENAI_COMPLETIONS),
)

RESPONSES = Wire(
    path="/v1/responses",
    shape=OPENAI,
    secret=bearer_token,
    decode=responses_request.decode_responses,
)

EMBEDDINGS = Wire(
    path="/v1/embeddings",
    shape=OPENAI,
    secret=bearer_token,
    decode=embeddings.decode_embeddings,
)

MESSAGES = Wire(
    path="/v1/messages",
    shape=ANTHROPIC,
    secret=api_key,
    decode=anthropic_request.decode_messages,
    headers=(*ANTHROPIC_HEADERS, "x-session-id"),
)

ZAI_CHAT = Wire(
    path="/v1/chat/completions",
    shape=ZAI,
    secret=bearer_token,
    decode=lambda body: zai_request.decode_chat(body, clears_thinking=True),
)

# Agents that code want their own reasoning of earlier turns back in the prompt.
ZAI_CODING_CHAT = Wire(
    path="/v1/chat/completions",
    shape=ZAI,
    secret=bearer_token,
    decode=lambda body: zai_request.decode_chat(body, clears_thinking=False),
)
