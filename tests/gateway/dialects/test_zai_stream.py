"""Z.ai's chunks, made from the engine's: nothing is lost, nothing kept back is counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects.dialect import BadChunk, Chunk
from headrace_gateway.dialects.zai_stream import ZaiChunks

Delta = dict[str, Any]


def reader(*, streams_tools: bool = False) -> ZaiChunks:
    return ZaiChunks(model="glm", context_tokens=8192, streams_tools=streams_tools, cached_tokens=3)


def block(delta: Delta | None, tokens: int, finish: str | None = None) -> bytes:
    """As vLLM writes a chunk, or the one with usage alone."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
    return b"data: " + json.dumps({"id": "c", "created": 1, "choices": choices, "usage": usage}).encode()


def events_of(chunk: Chunk | None) -> list[dict[str, Any]]:
    assert chunk is not None
    pieces = chunk.client_bytes.decode().split("\n\n")
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces if piece.startswith("data: {")]


def told(chunk: Chunk | None) -> int | None:
    assert chunk is not None
    return None if chunk.usage is None else json.loads(chunk.usage)["completion_tokens"]


def call(arguments: str, **named: Any) -> Delta:
    return {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **named}}]}


@pytest.mark.parametrize(
    "beside",
    [{}, {"content": None}, {"content": None, "reasoning": None}, {"content": "", "role": "assistant"}],
)
def test_a_call_that_is_kept_back_is_not_counted_whatever_stands_beside_it(beside: Delta) -> None:
    stream = reader()
    assert told(stream.take(block({"content": "a"}, 1))) == 1
    kept = stream.take(block(call("{", name="say") | beside, 2))

    assert events_of(kept) == []
    assert told(kept) == 1
    assert kept is not None
    assert kept.output_tokens == 2


def test_what_is_said_beside_a_call_is_passed_on() -> None:
    stream = reader()
    [event] = events_of(stream.take(block(call("{", name="say") | {"content": "a"}, 1)))
    assert event["choices"][0]["delta"] == {"content": "a"}


def test_usage_says_what_was_cached_and_stands_in_the_last_chunk_with_the_finish() -> None:
    stream = reader()
    assert events_of(stream.take(block({"reasoning": "hm"}, 1)))[0]["choices"][0]["delta"] == {
        "reasoning_content": "hm"
    }
    assert events_of(stream.take(block({"content": "a"}, 2, "stop"))) == []
    [last] = events_of(stream.take(block(None, 2)))

    assert last["choices"] == [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]
    assert last["usage"]["completion_tokens"] == 2
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


def test_an_engine_that_tells_no_usage_at_the_end_still_ends_its_choice() -> None:
    stream = reader()
    stream.take(block({"content": "a"}, 1, "stop"))
    done = stream.take(b"data: [DONE]")

    assert done is not None
    assert done.last
    assert events_of(done)[0]["choices"][0]["finish_reason"] == "stop"
    assert done.client_bytes.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("bad", [b'data: {"error": {"message": "x"}}', b"data: {", b'data: {"a": 1}'])
def test_what_is_no_chunk_ends_the_stream(bad: bytes) -> None:
    with pytest.raises(BadChunk):
        reader().take(bad)


@given(st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1)), min_size=1), st.booleans())
def test_however_calls_are_cut_their_arguments_arrive_whole_and_in_order(
    pieces: list[tuple[int, str]], streams_tools: bool
) -> None:
    stream = reader(streams_tools=streams_tools)
    events = []
    for number, (index, piece) in enumerate(pieces):
        delta = {"tool_calls": [{"index": index, "id": f"call_{index}", "function": {"arguments": piece}}]}
        events += events_of(stream.take(block(delta, number + 1)))
    events += events_of(stream.take(block({}, len(pieces), "tool_calls")))
    events += events_of(stream.take(block(None, len(pieces))))

    written: dict[int, str] = {}
    for event in events:
        for each in event["choices"][0]["delta"].get("tool_calls", []):
            written[each["index"]] = written.get(each["index"], "") + each["function"]["arguments"]
    wanted = {index: "".join(piece for at, piece in pieces if at == index) for index, _ in pieces}
    assert written == wanted
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
