"""Texts are found wherever a dialect has them, and nothing else is."""

import json
from typing import Any

import pytest

from headrace_gateway.guardrails.spoken import asked_in, said_in, said_in_events

REQUESTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"messages": [{"role": "user", "content": "one"}], "model": "m", "user": "u"}, ["one"]),
    (
        {
            "system": [{"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "two"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "three", "input": {"city": "four"}}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t", "content": "five"},
                        {"type": "image", "source": {"type": "base64", "data": "aGk="}},
                    ],
                },
            ],
        },
        ["two", "three", "four", "five", "one"],
    ),
    ({"prompt": ["one", "two"]}, ["one", "two"]),
    ({"prompt": [1, 2, 3]}, []),
    (
        {
            "instructions": "two",
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]}
            ],
        },
        ["one", "two"],
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/one"}}]}
            ]
        },
        [],
    ),
]


@pytest.mark.parametrize(("request_", "texts"), REQUESTS)
def test_of_a_request_everything_that_a_model_reads(request_: dict[str, Any], texts: list[str]) -> None:
    assert asked_in(json.dumps(request_).encode()) == texts


ANSWERS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {
            "id": "chatcmpl-1",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "one",
                        "reasoning": "two",
                        "tool_calls": [{"id": "c", "function": {"name": "n", "arguments": "three"}}],
                    },
                }
            ],
        },
        ["one", "two", "three"],
    ),
    ({"choices": [{"index": 0, "text": "one"}, {"index": 1, "text": "two"}]}, ["one", "two"]),
    ({"type": "message", "content": [{"type": "text", "text": "one"}]}, ["one"]),
    (
        {
            "object": "response",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "one"}]}],
        },
        ["one"],
    ),
]


@pytest.mark.parametrize(("answer", "texts"), ANSWERS)
def test_of_an_answer_everything_that_was_said(answer: dict[str, Any], texts: list[str]) -> None:
    assert [text for _, text in said_in(json.dumps(answer).encode())] == texts


def events(*payloads: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % json.dumps(each).encode() for each in payloads)


def test_of_events_what_is_new_in_each_by_its_part() -> None:
    chunks = [{"choices": [{"index": index, "delta": {"content": f"{index}"}}]} for index in (0, 1, 0)]
    said = list(said_in_events(events(*chunks) + b"data: [DONE]\n\n"))
    assert [text for _, text in said] == ["0", "1", "0"]
    assert said[0][0] == said[2][0] != said[1][0]


def test_of_a_response_s_events_the_deltas_alone() -> None:
    said = said_in_events(
        events(
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "one"},
            {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "one"},
            {"type": "response.completed", "response": {"output": [{"content": [{"text": "one"}]}]}},
        )
    )
    assert [text for _, text in said] == ["one"]


def test_of_a_message_s_events_text_thoughts_and_arguments() -> None:
    deltas = [{"text": "one"}, {"thinking": "two"}, {"partial_json": "three"}, {"signature": "four"}]
    said = said_in_events(
        events(*({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas))
    )
    assert [text for _, text in said] == ["one", "two", "three"]
