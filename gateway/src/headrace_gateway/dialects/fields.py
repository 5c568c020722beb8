"""The fields of a request's body: the few that are looked at are decoded, the others stay the bytes they were."""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from headrace_contracts.deployments import STOP_STRINGS_MAX
from headrace_gateway.dialects.values import VALUES_MAX, holds_more_values
from headrace_gateway.errors import FieldMissing, InvalidRequest

OUTPUT_TOKENS_MAX = 10_000_000
"""Far above any context: keeps holds within the integers that scripts compute with."""

MODEL_NAME_MAX = 256

NOT_FOR_CLIENTS = (
    "priority",
    "request_id",
    "kv_transfer_params",
    "ec_transfer_params",
    "mm_payload",
    "mm_processor_kwargs",
    "media_io_kwargs",
)
"""Engine fields by which a client could jump the queue, take another's id, reach into another's cache or have an image
be more tokens than its model's bound, for which it is held."""

_WHOLE = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]..")
"""A surrogate as an escape; and what holds none alone: pairs of them, and backslashes that stand for themselves."""

Fields = dict[str, msgspec.Raw]
Value = TypeVar("Value")

_fields = msgspec.json.Decoder(Fields).decode
_text = msgspec.json.Decoder(str).decode
_integer = msgspec.json.Decoder(int).decode
_stops = msgspec.json.Decoder(str | list[str]).decode
_flag = msgspec.json.Decoder(bool).decode


def read_fields(body: bytes) -> Fields:
    """Those that are not null. Raises `InvalidRequest` for what is no JSON object, or one of too many values."""
    if holds_more_values(body):
        raise InvalidRequest(f"The body holds more than {VALUES_MAX:,} values.")
    try:
        # Fields that pass through are not decoded, so nothing else would look at their encoding.
        if not body.isascii():
            body.decode()
        fields = _fields(body)
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_no_json(body, error)) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    if b"null" not in body:
        return fields
    return {name: raw for name, raw in fields.items() if bytes(raw) != b"null"}


def _no_json(body: bytes, error: msgspec.DecodeError) -> str:
    half = _HALF.search(_WHOLE.sub(b" ", body))
    if half is None:
        return f"The body is not valid JSON: {error}"
    escape = half[0].decode(errors="replace")
    return f"The body is not valid JSON: `{escape}` is half of a character. Cut texts between characters."


def model_of(fields: Fields) -> str:
    model = value_of(fields, "model", _text, "a string")
    if model is None:
        raise FieldMissing("model")
    if not 1 <= len(model) <= MODEL_NAME_MAX:
        raise InvalidRequest(f"`model` must have 1 to {MODEL_NAME_MAX} characters.", param="model")
    return model


def messages_of(fields: Fields) -> msgspec.Raw:
    """As they came; what they hold is the engine's business."""
    messages = fields.get("messages")
    if messages is None:
        raise FieldMissing("messages")
    if not bytes(messages).startswith(b"["):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    return messages


def flag_of(fields: Fields, name: str) -> bool:
    return bool(value_of(fields, name, _flag, "a boolean"))


def text_of(fields: Fields, name: str) -> str | None:
    return value_of(fields, name, _text, "a string")


def user_of(fields: Fields) -> str | None:
    """Whom the client asks for: OpenAI's newer name for it counts where the older one is not given."""
    return text_of(fields, "user") or text_of(fields, "safety_identifier")


def text_between(fields: Fields, name: str, characters: tuple[int, int]) -> str | None:
    value = text_of(fields, name)
    least, most = characters
    if value is not None and not least <= len(value) <= most:
        raise InvalidRequest(f"`{name}` must have {least} to {most} characters.", param=name)
    return value


def bounded(fields: Fields, name: str, most: int) -> int | None:
    value = value_of(fields, name, _integer, "an integer")
    if value is not None and not 1 <= value <= most:
        raise InvalidRequest(f"`{name}` must be from 1 to {most}.", param=name)
    return value


def check_stops(fields: Fields, name: str) -> None:
    """Raises `InvalidRequest` for more strings to stop at than an engine looks for."""
    stops = value_of(fields, name, _stops, "a string or a list of strings")
    if isinstance(stops, list) and len(stops) > STOP_STRINGS_MAX:
        raise InvalidRequest(f"`{name}` must be at most {STOP_STRINGS_MAX} strings.", param=name)


def value_of(fields: Fields, name: str, decode: Callable[[msgspec.Raw], Value], wanted: str) -> Value | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except msgspec.MsgspecError:
        raise InvalidRequest(f"`{name}` must be {wanted}.", param=name) from None
