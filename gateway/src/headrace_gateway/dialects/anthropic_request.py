"""A request in Anthropic's messages dialect: what the gateway reads of it, and what it changes for the engine.

What must stay true: the engine speaks the dialect itself, so every field but the model's name, the bound of the
output and what the chat template is told reaches it byte for byte; what decides about money or identity is read and
written here.
"""

import msgspec

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.anthropic_beginning import beginning_of
from headrace_gateway.dialects.anthropic_blocks import check_blocks
from headrace_gateway.dialects.anthropic_reply import read_count, read_message, withheld
from headrace_gateway.dialects.anthropic_stream import MessageEvents
from headrace_gateway.dialects.anthropic_thinking import Wishes, budget_within, engine_fields, wishes_of
from headrace_gateway.dialects.bounds import prompt_bytes_of, prompt_tokens_max
from headrace_gateway.dialects.cache_salt import SALT, salt_of
from headrace_gateway.dialects.dialect import JSON
from headrace_gateway.dialects.fields import (
    NOT_FOR_CLIENTS,
    OUTPUT_TOKENS_MAX,
    Fields,
    bounded,
    check_stops,
    flag_of,
    messages_of,
    model_of,
    read_fields,
    value_of,
)
from headrace_gateway.dialects.media import NO_MEDIA, Media, read_media
from headrace_gateway.errors import FieldMissing

_encode = msgspec.json.encode


class Metadata(msgspec.Struct):
    user_id: str | None = None


_metadata = msgspec.json.Decoder(Metadata).decode


class MessagesRequest(msgspec.Struct, frozen=True):
    model: str
    streamed: bool
    output_tokens_max: int
    prompt_bytes: int
    wishes: Wishes
    fields: Fields
    dialect: Dialect = Dialect.ANTHROPIC_MESSAGES
    media: Media = NO_MEDIA
    choices: int = 1
    task: Task = Task.GENERATE
    reply_type: str = JSON
    once: str | None = None

    def check(self, deployment: Deployment) -> None:
        """Whatever a model may not know, the engine says."""

    @property
    def end_user(self) -> str | None:
        metadata = value_of(self.fields, "metadata", _metadata, "an object")
        return None if metadata is None else metadata.user_id

    @property
    def beginning(self) -> bytes | None:
        return beginning_of(self.fields)

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        return prompt_tokens_max(self.prompt_bytes, self.media, deployment)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:
        bound = self.output_tokens_max if output_tokens_max is None else output_tokens_max
        salt = {SALT: salt_of(self.fields, org)} if deployment.salts_cache else {}
        lowered = bound < self.output_tokens_max
        return _encode(
            self.fields
            | (budget_within(self.wishes, output_tokens_max=bound) if lowered else {})
            | engine_fields(self.wishes, deployment.thinking)
            | {
                "model": msgspec.Raw(_encode(deployment.engine_model)),
                "max_tokens": msgspec.Raw(b"%d" % bound),
            }
            | salt
        )

    def withheld(self, body: bytes) -> bytes:
        return withheld(body)

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        return read_message(body, deployment.model)

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> MessageEvents:
        return MessageEvents(deployment.model, cached_tokens=cached_tokens)


class CountRequest(msgspec.Struct, frozen=True):
    """Asks how many tokens a prompt has."""

    model: str
    wishes: Wishes
    fields: Fields
    media: Media

    def upstream_body(self, deployment: Deployment) -> bytes:
        model = msgspec.Raw(_encode(deployment.engine_model))
        return _encode(self.fields | engine_fields(self.wishes, deployment.thinking) | {"model": model})

    def read_reply(self, body: bytes) -> bytes:
        return read_count(body)


def decode_messages(body: bytes) -> MessagesRequest:
    """Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    fields = _prompt_fields(body)
    output_tokens_max = bounded(fields, "max_tokens", OUTPUT_TOKENS_MAX)
    if output_tokens_max is None:
        raise FieldMissing("max_tokens")
    check_stops(fields, "stop_sequences")
    media = read_media(fields)
    return MessagesRequest(
        model=model_of(fields),
        streamed=flag_of(fields, "stream"),
        output_tokens_max=output_tokens_max,
        prompt_bytes=prompt_bytes_of(fields, media, calls=b'"tool_use"'),
        wishes=wishes_of(fields),
        fields=fields,
        media=media,
    )


def decode_count(body: bytes) -> CountRequest:
    fields = _prompt_fields(body)
    return CountRequest(
        model=model_of(fields), wishes=wishes_of(fields), fields=fields, media=read_media(fields)
    )


def _prompt_fields(body: bytes) -> Fields:
    fields = read_fields(body)
    model_of(fields)
    messages_of(fields)
    check_blocks(fields)
    for name in NOT_FOR_CLIENTS:
        fields.pop(name, None)
    return fields
