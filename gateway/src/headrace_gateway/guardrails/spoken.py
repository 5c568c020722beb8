"""The texts in requests, answers and events of every dialect, found by the names that they have there."""

from collections.abc import Hashable, Iterator
from typing import Any

import msgspec

from headrace_gateway.dialects.sse import payload_of

ASKED = ("messages", "prompt", "input", "system", "instructions", "tools")
"""Fields of a request that a model reads."""

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
"""What stands beside texts in these: names, addresses, images."""

SPOKEN = frozenset(
    ("content", "text", "reasoning_content", "reasoning", "refusal", "arguments", "partial_json", "thinking")
)
"""Where an answer's texts are."""

_decode = msgspec.json.decode


def asked_in(body: bytes) -> list[str]:
    """Of a request that was decoded before, so it is an object."""
    fields: dict[str, Any] = _decode(body)
    return [text for name in ASKED if name in fields for text in _every(fields[name])]


def said_in(body: bytes) -> Iterator[tuple[Hashable, str]]:
    """Of a whole answer: texts, each with the part that it belongs to."""
    yield from _said(_decode(body), ())


def said_in_events(data: bytes) -> Iterator[tuple[Hashable, str]]:
    """Of events of a stream: what is new in each."""
    for block in data.split(b"\n\n"):
        payload = payload_of(block)
        if not payload.startswith(b"{"):
            continue
        event: dict[str, Any] = _decode(payload)
        if str(event.get("type", "")).startswith("response."):
            # Its other events say again what deltas said.
            delta = event.get("delta")
            if isinstance(delta, str):
                yield (event["type"], event.get("output_index"), event.get("content_index")), delta
        else:
            yield from _said(event, ())


def _every(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _every(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in UNSPOKEN:
                yield from _every(each)


def _said(value: Any, part: tuple[Hashable, ...]) -> Iterator[tuple[Hashable, str]]:
    if isinstance(value, list):
        for place, each in enumerate(value):
            yield from _said(each, part if isinstance(each, dict) and "index" in each else (*part, place))
    elif isinstance(value, dict):
        if "index" in value:
            part = (*part, value["index"])
        for name, each in value.items():
            if isinstance(each, str):
                if name in SPOKEN and each:
                    yield (*part, name), each
            else:
                yield from _said(each, part)
