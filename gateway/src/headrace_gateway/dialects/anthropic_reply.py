"""An engine's whole reply in Anthropic's messages dialect: a message, or a count of tokens."""

import msgspec

from headrace_gateway.dialects.anthropic_stream import STOPS
from headrace_gateway.dialects.anthropic_usage import AnthropicUsage, counts_of
from headrace_gateway.dialects.dialect import Cut, NoCompletion

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_usage = msgspec.json.Decoder(AnthropicUsage | None).decode
_encode = msgspec.json.encode


class Count(msgspec.Struct):
    input_tokens: int


_count = msgspec.json.Decoder(Count).decode


def read_message(body: bytes, model: str) -> tuple[bytes, bytes | None]:
    """The reply under the name of the model the client asked for; and its usage in the engine's own shape."""
    try:
        fields = _fields(body)
        usage = _usage(fields.get("usage", b"null"))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NoCompletion(str(error)) from error
    if "content" not in fields:
        raise NoCompletion("no content")
    fields["model"] = msgspec.Raw(_encode(model))
    return _encode(fields), None if usage is None else counts_of(usage).encoded()


def withheld(body: bytes) -> bytes:
    """The same message without content."""
    fields: dict[str, object] = dict(_fields(body))
    usage = msgspec.json.decode(_fields(body).get("usage", b"null")) or {}
    nothing: dict[str, object] = {"content": [], "stop_reason": STOPS[Cut.WITHHELD], "stop_sequence": None}
    return _encode(fields | nothing | {"usage": usage | {"output_tokens": 0}})


def read_count(body: bytes) -> bytes:
    """What the client gets: the count and nothing else that an engine may add."""
    try:
        return _encode(_count(body))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NoCompletion(str(error)) from error
