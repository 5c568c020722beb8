"""The inference endpoints: what differs between them, in one place; everything else treats them alike."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headrace_contracts.usage import Dialect
from headrace_gateway.dialects import (
    anthropic_request,
    embeddings,
    forms,
    openai_request,
    responses_request,
    transcription,
    zai_request,
)
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.http.authorization import api_key, bearer_token
from headrace_gateway.http.bodies import Bodies, read_body
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.forms import read_form, read_form_or_json
from headrace_gateway.http.shapes import ANTHROPIC, OPENAI, OPENAI_NUMBERED, ZAI, Shape


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
    read: Callable[[Exchange, Bodies, str], Awaitable[bytes]] = read_body
    """What `decode` gets, by the organisation that sends it; the same for every sending of the same request."""
    texts: Callable[[bytes], bytes] = lambda body: body
    """Of what was read, what a guardrail may look at, as a JSON object."""
    content_type: bytes = b"application/json"
    """Of what the engine gets."""


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
    shape=OPENAI_NUMBERED,
    secret=bearer_token,
    decode=responses_request.decode_responses,
)

EMBEDDINGS = Wire(
    path="/v1/embeddings",
    shape=OPENAI,
    secret=bearer_token,
    decode=embeddings.decode_embeddings,
)

TRANSCRIPTIONS = Wire(
    path="/v1/audio/transcriptions",
    shape=OPENAI,
    secret=bearer_token,
    decode=transcription.decode_openai,
    read=read_form,
    texts=forms.texts_of,
    content_type=forms.CONTENT_TYPE,
)

ZAI_TRANSCRIPTIONS = Wire(
    path="/v1/audio/transcriptions",
    shape=ZAI,
    secret=bearer_token,
    decode=transcription.decode_zai,
    read=read_form_or_json,
    texts=forms.texts_of,
    content_type=forms.CONTENT_TYPE,
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
