"""Which items of a response a conversation can go on from: an engine fails at some that a cut stream leaves behind."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace_gateway.errors import InvalidRequest

_NULL = msgspec.Raw(b"null")
_AROUND_NOTHING = b"[] \t\r\n"


class Item(msgspec.Struct):
    type: str = ""
    role: str = ""
    status: str | None = None
    content: msgspec.Raw = _NULL
    summary: msgspec.Raw = _NULL
    encrypted_content: msgspec.Raw = _NULL
    arguments: Any = None


class Part(msgspec.Struct):
    type: Any = None


ASSISTANT = b'"assistant"'

_item = msgspec.json.Decoder(Item).decode
_parts = msgspec.json.Decoder(list[Part]).decode


def check_said(items: Sequence[msgspec.Raw]) -> None:
    """Raises `InvalidRequest` for a message of the assistant at which vLLM fails, with a 500: one without parts, or one
    whose first part is no text."""
    for place, raw in enumerate(items):
        if ASSISTANT not in bytes(raw):
            continue
        item = _read(raw)
        if item is None or item.role != "assistant":
            continue
        if _has_no_parts(item.content):
            raise InvalidRequest("A message must have content.", param=f"input[{place}].content")
        if _begins_with_a_refusal(item.content):
            raise InvalidRequest(
                "A refusal is not read here. Send it as `output_text`.", param=f"input[{place}].content[0]"
            )


def is_empty(raw: msgspec.Raw) -> bool:
    """A message or thought that was begun, and of which nothing came."""
    item = _read(raw)
    return item is not None and _is_empty(item)


def can_be_gone_on_from(raw: msgspec.Raw) -> bool:
    """Not half a call either: its arguments are no JSON yet, and nobody will answer it."""
    item = _read(raw)
    return item is None or not (_is_empty(item) or _is_half_a_call(item))


def _is_empty(item: Item) -> bool:
    parts = (item.content, item.summary, item.encrypted_content)
    return item.type in ("message", "reasoning") and all(
        _has_no_parts(part) or part == _NULL for part in parts
    )


def _is_half_a_call(item: Item) -> bool:
    if not item.type.endswith("_call"):
        return False
    # Where the output's bound cuts a call of a function, vLLM says that it is completed all the same.
    return item.status in ("in_progress", "incomplete") or _is_half(item.arguments)


def _is_half(arguments: Any) -> bool:
    if not isinstance(arguments, str) or not arguments:
        return False
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return True
    return False


def _begins_with_a_refusal(content: msgspec.Raw) -> bool:
    try:
        parts = _parts(content)
    except msgspec.MsgspecError:
        return False  # a text, or something at which the engine will say what is wrong with it
    return bool(parts[0].type == "refusal")


def _has_no_parts(written: msgspec.Raw) -> bool:
    return not bytes(written).strip(_AROUND_NOTHING)


def _read(raw: msgspec.Raw) -> Item | None:
    try:
        return _item(raw)
    except msgspec.MsgspecError:
        return None  # of a kind that nobody knows here
