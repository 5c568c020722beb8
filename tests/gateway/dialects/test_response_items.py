"""Which items of a response a conversation goes on from, as the engine writes them."""

import json
from typing import Any

import msgspec
import pytest

from headrace_gateway.dialects.response_items import can_be_gone_on_from, check_said
from headrace_gateway.errors import InvalidRequest


def raw(item: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(item).encode())


def call(arguments: str, status: str = "completed") -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": "c",
        "name": "n",
        "arguments": arguments,
        "status": status,
    }


@pytest.mark.parametrize(
    ("item", "goes_on"),
    [
        (call('{"city": "Oslo"}'), True),
        (call(""), True),
        (call('{"city": "Oslo'), False),
        (call('{"city": "Oslo"}', status="incomplete"), False),
        ({"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "no JSON"}, True),
        ({"type": "custom_tool_call", "call_id": "c", "input": "no", "status": "incomplete"}, False),
        ({"type": "message", "role": "assistant", "content": []}, False),
        ({"type": "reasoning", "summary": [], "content": None}, False),
        ({"type": "something new", "status": "incomplete"}, True),
    ],
)
def test_a_conversation_goes_on_from_what_is_whole(item: dict[str, Any], goes_on: bool) -> None:
    assert can_be_gone_on_from(raw(item)) is goes_on


@pytest.mark.parametrize("content", ["yes", [{"type": "output_text", "text": "yes"}]])
def test_what_the_assistant_said_may_be_told_in_either_way(content: Any) -> None:
    check_said([raw({"role": "assistant", "content": content})])


def test_a_refusal_that_an_engine_fails_at_is_refused_with_what_to_send_instead() -> None:
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    with pytest.raises(InvalidRequest, match="output_text") as refused:
        check_said([raw({"role": "user", "content": "hello"}), raw(refusal)])
    assert refused.value.param == "input[1].content[0]"
