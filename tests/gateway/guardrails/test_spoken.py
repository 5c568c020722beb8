"""Texts are found wherever a dialect has them, and nothing else is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects.bounds import UNREAD, prompt_bytes_of
from headrace_gateway.dialects.fields import read_fields
from headrace_gateway.dialects.media import NO_MEDIA
from headrace_gateway.guardrails.spoken import (
    CONVERSATION,
    UNSPOKEN,
    Unreadable,
    asked_in,
    said_in,
    said_in_events,
)

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
        ["two", "three", '{"city":"four"}', "four", "five", "one"],
    ),
    ({"prompt": ["one", "two"]}, ["one", "two"]),
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


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": [1, 2, 3]},
        {"prompt": [[1], [2]]},
        {"prompt": ["one", [2]]},
        {"input": [1, 2]},
        {"input": [[1, 2]]},
        {"prompt_embeds": "AAAA"},
    ],
)
def test_in_tokens_nobody_can_read(request_: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        asked_in(json.dumps(request_).encode())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "field",
    ["documents", "chat_template", "chat_template_kwargs", "response_format", "text", "tool_choice", "new"],
)
def test_a_text_is_found_in_whatever_field_counts_as_prompt(field: str, nested: bool) -> None:
    names = sorted(UNSPOKEN)
    body = json.dumps({field: [{name: f"one {name}"} for name in names] if nested else "one"}).encode()
    assert ({f"one {name}" for name in names} if nested else {"one"}) <= set(asked_in(body))
    assert prompt_bytes_of(read_fields(body), NO_MEDIA, calls=b"-") > 0


@given(
    st.dictionaries(
        st.one_of(st.text(max_size=8), st.sampled_from(sorted(UNREAD))),
        st.recursive(
            st.text(min_size=1, max_size=8),
            lambda values: st.one_of(
                st.lists(values, max_size=3), st.dictionaries(st.text(max_size=4), values, max_size=3)
            ),
            max_leaves=5,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_request_without_a_text_to_look_at_has_no_bytes_of_prompt(request_: dict[str, Any]) -> None:
    body = json.dumps(request_).encode()
    counts = prompt_bytes_of(read_fields(body), NO_MEDIA, calls=b"-") > 0
    conversation = {name: request_[name] for name in CONVERSATION if name in request_}
    assert conversation or counts == bool(asked_in(body))


@pytest.mark.parametrize("field", sorted(UNREAD))
def test_what_no_engine_reads_is_neither_looked_at_nor_held(field: str) -> None:
    body = json.dumps({field: "bob@corp.example"}).encode()
    assert asked_in(body) == []
    assert prompt_bytes_of(read_fields(body), NO_MEDIA, calls=b"-") == 0


def test_of_a_number_beside_the_texts_there_is_nothing_to_look_at() -> None:
    assert asked_in(b'{"prompt":"one","seed":4111111111111111,"temperature":0.5,"stream":true}') == ["one"]


SECRET = "four \u00e9\n"
"""With what JSON may write in another way."""


def written(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=True)


def called(arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """An assistant's call of a tool, and what the tool may be called with, in every dialect that has tools."""
    told = {"properties": arguments, "examples": [arguments]}
    openai = [{"id": "c", "type": "function", "function": {"name": "n", "arguments": written(arguments)}}]
    function = {"type": "function", "function": {"name": "n", "parameters": told}}
    return {
        "chat call": {"messages": [{"role": "assistant", "tool_calls": openai}]},
        "chat tool": {"messages": [], "tools": [function]},
        "z.ai call, its arguments an object": {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"name": "n", "arguments": arguments}}]}
            ]
        },
        "message call": {
            "messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": arguments}]}]
        },
        "message tool": {"messages": [], "tools": [{"name": "n", "input_schema": told}]},
        "response call": {"input": [{"type": "function_call", "arguments": written(arguments)}]},
        "response tool": {"input": "x", "tools": [{"type": "function", "parameters": told}]},
    }


@pytest.mark.parametrize("name", sorted(UNSPOKEN))
@pytest.mark.parametrize("place", called({}))
def test_no_name_hides_a_text_in_what_a_tool_is_called_with(place: str, name: str) -> None:
    for arguments in ({name: SECRET}, {"deeper": [{name: {"x": SECRET}}]}):
        assert SECRET in asked_in(json.dumps(called(arguments)[place]).encode())


@pytest.mark.parametrize("name", sorted(UNSPOKEN))
@pytest.mark.parametrize(
    "answer",
    [
        lambda arguments: {
            "choices": [{"message": {"tool_calls": [{"function": {"arguments": written(arguments)}}]}}]
        },
        lambda arguments: {"content": [{"type": "tool_use", "input": arguments}]},
        lambda arguments: {"output": [{"type": "function_call", "arguments": written(arguments)}]},
        lambda arguments: {"output": [{"type": "custom_tool_call", "input": written(arguments)}]},
    ],
    ids=["chat", "message", "response", "response of a custom tool"],
)
def test_no_name_hides_a_text_in_what_a_model_calls_a_tool_with(
    answer: Callable[[dict[str, Any]], dict[str, Any]], name: str
) -> None:
    said = list(said_in(json.dumps(answer({"deeper": [{name: SECRET}]})).encode()))
    assert SECRET in [text for _, text in said]
    assert len({part for part, _ in said}) == len(said), "texts that do not belong together"


def test_what_a_custom_tool_is_called_with_is_a_text() -> None:
    call = {"type": "custom_tool_call", "id": "c", "name": "n", "input": "one two"}
    assert [text for _, text in said_in(json.dumps({"output": [call]}).encode())] == ["one two"]


def test_the_tools_that_an_answer_repeats_are_not_what_was_said() -> None:
    tool = {"type": "function", "name": "n", "parameters": {"input": {"x": "one"}, "arguments": {"x": "two"}}}
    assert list(said_in(json.dumps({"object": "response", "tools": [tool], "output": []}).encode())) == []


def test_names_and_numbers_of_a_call_are_read_too() -> None:
    [text, *_] = asked_in(
        json.dumps({"messages": [{"content": [{"type": "tool_use", "input": {"one": 4111}}]}]}).encode()
    )
    assert text == '{"one":4111}'


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ({"type": "text", "media_type": "text/plain", "data": "one"}, ["text", "text/plain", "one"]),
        ({"type": "content", "content": [{"type": "text", "text": "one"}]}, ["content", "one"]),
        ({"type": "base64", "media_type": "image/png", "data": "aGk="}, []),
        ({"type": "url", "url": "https://x/one"}, []),
    ],
)
def test_a_document_s_words_are_read_and_an_image_is_not(source: dict[str, Any], texts: list[str]) -> None:
    part = {"type": "document", "source": source}
    assert asked_in(json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()) == texts


def test_arguments_that_are_no_json_are_one_text() -> None:
    call = {"function": {"name": "n", "arguments": '{"one": '}}
    assert asked_in(json.dumps({"messages": [{"tool_calls": [call]}]}).encode()) == ["n", '{"one": ']


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
