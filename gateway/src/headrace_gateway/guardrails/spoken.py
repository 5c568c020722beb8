"""The texts in requests, answers and events of every dialect, found by the names that they have there."""

from collections.abc import Hashable, Iterator
from itertools import count
from typing import Any

import msgspec

from headrace_gateway.dialects.bounds import UNREAD
from headrace_gateway.dialects.sse import payload_of

CONVERSATION = ("messages", "prompt", "input", "system", "instructions", "tools", "hotwords")
"""Fields of a request that every dialect's engine writes out part by part, as it knows the parts. What it makes of others
(`documents`, `chat_template_kwargs`, `response_format`) is a template's business, so all in those is looked at."""

GIVEN_AS_TOKENS = ("prompt", "input")
"""Fields that may hold numbers of tokens, or lists of these, in the place of texts."""

EMBEDDED = "prompt_embeds"

UNSPOKEN = frozenset(
    (
        "cache_control",
        "call_id",
        "data",
        "encrypted_content",
        "id",
        "image_url",
        "media_type",
        "role",
        "signature",
        "tool_call_id",
        "tool_use_id",
        "type",
        "url",
    )
)
"""What stands beside a part's texts, in the part itself: names, addresses, images. Further in they are anybody's words."""

CALLED = ("arguments", "input")
"""What a tool is called with: an object, or one written as JSON. Its names are the tool's, so none is left out."""

CALLS = ("tool_use", "custom_tool_call")
"""Parts of an answer that have it in `input`; the others have it in `arguments`."""

SCHEMAS = ("parameters", "input_schema")
"""What a tool may be called with; the names in it are the tool's too."""

NO_TEXT = frozenset(("base64", "url", "file"))
"""Kinds of a part's `source` that hold no words; others do."""

SPOKEN = frozenset(
    ("content", "text", "reasoning_content", "reasoning", "refusal", "arguments", "partial_json", "thinking")
)
"""Where an answer's texts are."""

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Unreadable(Exception):
    """A prompt is given as tokens or as what becomes of them, in which nobody here can read a word."""


def asked_in(body: bytes) -> list[str]:
    """Of a request that was decoded before, so it is an object. Raises `Unreadable`."""
    fields: dict[str, Any] = _decode(body)
    if EMBEDDED in fields or any(_has_tokens(fields.get(name)) for name in GIVEN_AS_TOKENS):
        raise Unreadable
    said = [text for name in CONVERSATION if name in fields for text in _every(fields[name])]
    others = [fields[name] for name in fields if name not in CONVERSATION and name not in UNREAD]
    return said + [text for each in others for text in _whole(each)]


def said_in(body: bytes, *, media_type: str = "application/json") -> Iterator[tuple[Hashable, str]]:
    """Of a whole answer: texts, each with the part that it belongs to."""
    if media_type.startswith("text/"):
        yield (), body.decode("utf-8", "replace")
        return
    yield from _said(_decode(body), (), is_whole=True)


def said_in_events(data: bytes) -> Iterator[tuple[Hashable, str]]:
    """Of events of a stream: what is new in each."""
    for block in data.split(b"\n\n"):
        payload = payload_of(block)
        if not payload.startswith(b"{"):
            continue
        event: dict[str, Any] = _decode(payload)
        if str(event.get("type", "")).startswith(("response.", "transcript.")):
            # Other events say again what deltas said.
            delta = event.get("delta")
            if isinstance(delta, str):
                yield (event["type"], event.get("output_index"), event.get("content_index")), delta
        else:
            yield from _said(event, (), is_whole=False)


def _has_tokens(prompts: Any) -> bool:
    return isinstance(prompts, list) and any(isinstance(each, int | list) for each in prompts)


def _every(value: Any, *, is_part: bool = False) -> Iterator[str]:
    """Parts are the objects in lists: messages, their contents, tools, items."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _every(each, is_part=True)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in CALLED:
                yield from _called(each)
            elif name in SCHEMAS:
                yield from _leaves(each)
            elif not (is_part and (name in UNSPOKEN or (name == "source" and _holds_no_text(each)))):
                yield from _every(each)


def _whole(value: Any) -> Iterator[str]:
    """Of a field that anybody may have written: as one text, and string by string."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        yield _encode(value).decode()
        yield from _leaves(value)


def _called(arguments: Any) -> Iterator[str]:
    """As one text, in which a name stands beside its value, and every string by itself, without JSON's escapes."""
    if isinstance(arguments, str):
        yield arguments
        try:
            arguments = _decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return
    else:
        yield _encode(arguments).decode()
    yield from _leaves(arguments)


def _leaves(value: Any) -> Iterator[str]:
    """Every string in it, however deep: who wrote it may have nested it as deep as JSON may be."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, list):
            left += reversed(each)
        elif isinstance(each, dict):
            left += reversed(each.values())


def _holds_no_text(source: Any) -> bool:
    return isinstance(source, dict) and source.get("type") in NO_TEXT


def _is_a_call(part: dict[str, Any], name: str) -> bool:
    """Whether a model calls a tool with what the answer's part has there; answers repeat the tools' schemas too."""
    if name == "arguments":
        return isinstance(part[name], str) and bool(part[name])
    return name == "input" and part.get("type") in CALLS


def _said(value: Any, part: tuple[Hashable, ...], *, is_whole: bool) -> Iterator[tuple[Hashable, str]]:
    if isinstance(value, list):
        for place, each in enumerate(value):
            is_numbered = isinstance(each, dict) and "index" in each
            yield from _said(each, part if is_numbered else (*part, place), is_whole=is_whole)
    elif isinstance(value, dict):
        if "index" in value:
            part = (*part, value["index"])
        for name, each in value.items():
            if is_whole and _is_a_call(value, name):
                # Apart, for none of these texts goes on where the one before it ended.
                yield from zip(((*part, name, number) for number in count()), _called(each), strict=False)
            elif not isinstance(each, str):
                yield from _said(each, part, is_whole=is_whole)
            elif name in SPOKEN and each:
                yield (*part, name), each
