"""A request in Anthropic's messages dialect: what the gateway reads of it, and what it changes for the engine.

What must stay true: the engine speaks the dialect itself, so every field but the model's name and the bound of
the output reaches it byte for byte; what decides about money or identity is read and written here.
"""

from dataclasses import dataclass

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.anthropic_stream import MessageEvents
from headrace_gateway.dialects.fields import (
    NOT_FOR_CLIENTS,
    OUTPUT_TOKENS_MAX,
    TOOL_EXPANSION,
    Fields,
    bounded,
    flag_of,
    model_of,
    read_fields,
    value_of,
)
from headrace_gateway.errors import InvalidRequest

_encode = msgspec.json.encode


class Metadata(msgspec.Struct):
    user_id: str | None = None


_metadata = msgspec.json.Decoder(Metadata).decode


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    model: str
    streamed: bool
    output_tokens_max: int
    prompt_bytes: int
    fields: Fields
    dialect: Dialect = Dialect.ANTHROPIC_MESSAGES
    choices: int = 1

    @property
    def end_user(self) -> str | None:
        metadata = value_of(self.fields, "metadata", _metadata, "an object")
        return None if metadata is None else metadata.user_id

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        """Upper bound: no token is less than a byte of text, and no prompt is longer than the context."""
        return min(self.prompt_bytes + deployment.prompt_overhead_tokens, deployment.context_tokens)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None) -> bytes:
        bound = self.output_tokens_max if output_tokens_max is None else output_tokens_max
        return _encode(
            self.fields
            | {
                "model": msgspec.Raw(_encode(deployment.engine_model)),
                "max_tokens": msgspec.Raw(b"%d" % bound),
            }
        )

    def reader(self, model: str, *, cached_tokens: int | None) -> MessageEvents:
        return MessageEvents(model, cached_tokens=cached_tokens)


@dataclass(frozen=True, slots=True)
class CountRequest:
    """Asks how many tokens a prompt has."""

    model: str
    fields: Fields

    def upstream_body(self, deployment: Deployment) -> bytes:
        return _encode(self.fields | {"model": msgspec.Raw(_encode(deployment.engine_model))})


def decode_messages(body: bytes) -> MessagesRequest:
    """Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    fields = _prompt_fields(body)
    output_tokens_max = bounded(fields, "max_tokens", OUTPUT_TOKENS_MAX)
    if output_tokens_max is None:
        raise InvalidRequest("`max_tokens` is missing.", param="max_tokens")
    return MessagesRequest(
        model=model_of(fields),
        streamed=flag_of(fields, "stream"),
        output_tokens_max=output_tokens_max,
        prompt_bytes=_prompt_bytes(fields),
        fields=fields,
    )


def decode_count(body: bytes) -> CountRequest:
    fields = _prompt_fields(body)
    return CountRequest(model=model_of(fields), fields=fields)


def _prompt_fields(body: bytes) -> Fields:
    fields = read_fields(body)
    model_of(fields)
    messages = fields.get("messages")
    if messages is None or not bytes(messages).startswith(b"["):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    for name in NOT_FOR_CLIENTS:
        fields.pop(name, None)
    return fields


def _prompt_bytes(fields: Fields) -> int:
    """Everything but the model's name may end up in the prompt: system, tools, the schema of an output."""
    size = sum(len(memoryview(raw)) for name, raw in fields.items() if name != "model")
    spelt_out = "tools" in fields or b'"tool_use"' in bytes(fields["messages"])
    return size * TOOL_EXPANSION if spelt_out else size
