"""A conversation of Anthropic's clients is the same one in all of its requests, and no other."""

import json
from typing import Any

import pytest

from headrace_gateway.dialects.anthropic_request import decode_messages

MARK = {"cache_control": {"type": "ephemeral"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def beginning(*turns: Any, system: Any = None) -> bytes | None:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]
    body = {"model": "m", "max_tokens": 5, "system": system, "messages": messages}
    return decode_messages(json.dumps(body).encode()).beginning


def agent(number: int) -> list[dict[str, Any]]:
    """What coding agents send: a line that has another number each time, then the system's words."""
    line = f"x-anthropic-billing-header: cc_version=2.1; cch={number:05x};"
    return [text(line), text("You write code.", **MARK)]


def test_it_is_known_again_though_its_marks_move_on_and_its_requests_are_counted() -> None:
    first = beginning([text("hello", **MARK)], system=agent(1))
    second = beginning([text("hello")], "yes?", [text("go on", **MARK)], system=agent(2))
    assert first == second


def test_a_text_is_the_same_in_either_form() -> None:
    assert beginning("hello", system="s") == beginning([text("hello")], system=[text("s")])


def test_others_begin_otherwise() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    begun = [
        beginning("hello"),
        beginning("bye"),
        beginning("hello", system="s"),
        beginning([image, text("hello")]),
        beginning("hello", system=agent(1)),
    ]
    assert len(set(begun)) == len(begun)


@pytest.mark.parametrize("content", [5, [5], [{"type": "text", "text": 5}]])
def test_what_can_t_be_read_is_the_engine_s_to_judge(content: Any) -> None:
    assert beginning(content) is None
