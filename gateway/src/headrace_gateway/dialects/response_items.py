"""Which items of a response a conversation can go on from: an engine fails at some that a cut stream leaves behind."""

from collections.abc import Sequence

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


ASSISTANT = b'"assistant"'

_item = msgspec.json.Decoder(Item).decode


def check_said(items: Sequence[msgspec.Raw]) -> None:
    """Raises `InvalidRequest` for a message of the assistant without parts: vLLM fails at one, with a 500."""
    for place, raw in enumerate(items):
        if ASSISTANT not in bytes(raw):
            continue
        item = _read(raw)
        if item is not None and item.role == "assistant" and _has_no_parts(item.content):
            raise InvalidRequest("A message must have content.", param=f"input[{place}].content")


def is_empty(raw: msgspec.Raw) -> bool:
    """A message or thought that was begun, and of which nothing came."""
    item = _read(raw)
    return item is not None and _is_empty(item)


def can_be_gone_on_from(raw: msgspec.Raw) -> bool:
    """Not half a call either: its arguments are no JSON yet, and nobody will answer it."""
    item = _read(raw)
    if item is None:
        return True
    is_cut = item.status in ("in_progress", "incomplete")
    return not (_is_empty(item) or (is_cut and item.type.endswith("_call")))


def _is_empty(item: Item) -> bool:
    parts = (item.content, item.summary, item.encrypted_content)
    return item.type in ("message", "reasoning") and all(
        _has_no_parts(part) or part == _NULL for part in parts
    )


def _has_no_parts(written: msgspec.Raw) -> bool:
    return not bytes(written).strip(_AROUND_NOTHING)


def _read(raw: msgspec.Raw) -> Item | None:
    try:
        return _item(raw)
    except msgspec.MsgspecError:
        return None  # of a kind that nobody knows here
