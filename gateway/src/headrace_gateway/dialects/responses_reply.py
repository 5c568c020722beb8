"""An engine's whole response in OpenAI's responses dialect."""

import msgspec

from headrace_gateway.dialects.dialect import NoCompletion
from headrace_gateway.dialects.response_items import can_be_gone_on_from
from headrace_gateway.dialects.running_counts import (
    CachedTokens,
    Counts,
    ReasoningTokens,
    prompt_alone,
    read_counts,
)

Raws = dict[str, msgspec.Raw]

_fields = msgspec.json.Decoder(Raws).decode
_encode = msgspec.json.encode


class ResponsesUsage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: CachedTokens | None = None
    output_tokens_details: ReasoningTokens | None = None


_usage = msgspec.json.Decoder(ResponsesUsage | None).decode
_text = msgspec.json.Decoder(str).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class FinalResponse:
    """The answer once it is whole; and until then how much of its stream was given."""

    __slots__ = ("body", "events_given", "id", "output")

    def __init__(self) -> None:
        self.events_given = 0
        self.id = ""
        self.body = msgspec.Raw()
        self.output: list[msgspec.Raw] = []
        """What a later request goes on from."""

    def take(self, fields: Raws, body: bytes) -> None:
        self.id = _text(fields["id"])
        self.output = [raw for raw in _items(fields["output"]) if can_be_gone_on_from(raw)]
        self.body = msgspec.Raw(body)


def read_response(
    body: bytes, *, model: str, previous: str | None, final: FinalResponse
) -> tuple[bytes, bytes | None]:
    """The reply as the client gets it, under the name of the model it asked for; and the engine's usage."""
    try:
        fields = for_client(_fields(body), model=model, previous=previous)
        usage = usage_of(fields)
        client_body = _encode(fields)
        final.take(fields, client_body)
    except (msgspec.MsgspecError, RecursionError, KeyError) as error:
        raise NoCompletion(str(error)) from error
    return client_body, usage


def withheld(body: bytes, *, final: FinalResponse) -> bytes:
    """The same response without output, which is also what is kept of it."""
    fields = _fields(body)
    usage = usage_of(fields)
    fields |= {
        "output": msgspec.Raw(b"[]"),
        "status": msgspec.Raw(b'"incomplete"'),
        "incomplete_details": msgspec.Raw(b'{"reason":"content_filter"}'),
    }
    if usage is not None:
        fields["usage"] = msgspec.Raw(_encode(usage_fields(read_counts(prompt_alone(usage)))))
    encoded = _encode(fields)
    final.take(fields, encoded)
    return encoded


def for_client(fields: Raws, *, model: str, previous: str | None) -> Raws:
    """A response object under the names that the client knows."""
    fields["model"] = msgspec.Raw(_encode(model))
    fields["previous_response_id"] = msgspec.Raw(_encode(previous))
    return fields


def usage_of(fields: Raws) -> bytes | None:
    """In the engine's own shape."""
    usage = _usage(fields.get("usage", b"null"))
    if usage is None:
        return None
    return Counts(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        prompt_tokens_details=usage.input_tokens_details,
        completion_tokens_details=usage.output_tokens_details,
    ).encoded()


def usage_fields(counts: Counts) -> dict[str, object]:
    """In the dialect's shape."""
    reasoning = counts.completion_tokens_details
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0 if reasoning is None else reasoning.reasoning_tokens},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }
