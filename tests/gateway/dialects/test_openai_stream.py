"""What a client sees of a stream, against a reading of the same events by the standard library's JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.dialect import BadChunk
from headrace_gateway.dialects.openai_stream import USAGE_BYTES_MAX, Chunks

MODEL = "glm-test"


def chunks(
    *,
    dialect: Dialect = Dialect.OPENAI_CHAT,
    choices: int = 1,
    choices_per_prompt: int | None = None,
    include_usage: bool = False,
    continuous_usage: bool = False,
    cached_tokens: int | None = None,
) -> Chunks:
    return Chunks(
        dialect=dialect,
        model=MODEL,
        choices=choices,
        choices_per_prompt=choices_per_prompt or choices,
        include_usage=include_usage,
        continuous_usage=continuous_usage,
        cached_tokens=cached_tokens,
    )


def sent(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def seen(client_bytes: bytes) -> Any:
    assert client_bytes.startswith(b"data: ")
    assert client_bytes.endswith(b"\n\n")
    return json.loads(client_bytes[6:])


def delta(content: str, *, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": content}, "finish_reason": finish}


def counted(completion: int, prompt: int = 7) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


# Text that looks like the thing we look for is what a search in bytes would trip over.
tricky = st.sampled_from(
    [
        '"usage":{',
        'usage":{"completion_tokens":99}',
        '\\"usage\\":',
        "}",
        '{"choices":[]}',
        "\n\ndata: [DONE]",
        "é\u2028",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | tricky,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["usage", "choices", "completion_tokens", "a", '"usage"']), inner, max_size=3
        )
    ),
    max_leaves=8,
)
usages = st.none() | st.builds(counted, st.integers(0, 10**6), st.integers(0, 10**6))


@given(
    content=st.text(max_size=30) | tricky,
    more=st.dictionaries(st.text(max_size=8) | st.just("x"), values, max_size=3),
    usage=usages,
    usage_first=st.booleans(),
    asked=st.sampled_from([(False, False), (True, False), (True, True)]),
)
def test_a_chunk_passes_but_for_its_usage_and_its_model(
    content: str, more: dict[str, Any], usage: Any, usage_first: bool, asked: tuple[bool, bool]
) -> None:
    include, continuous = asked
    fields = {"id": "1", "model": "engine", "choices": [delta(content)]}
    fields |= {name: value for name, value in more.items() if name not in (*fields, "usage", "error")}
    fields = {"usage": usage} | fields if usage_first else fields | {"usage": usage}
    reader = chunks(include_usage=include, continuous_usage=continuous)

    chunk = reader.read(sent(fields))

    expected = dict(fields) | {"model": MODEL}
    if not continuous:
        del expected["usage"]
    assert seen(chunk.client_bytes) == expected
    assert (None if chunk.usage is None else json.loads(chunk.usage)) == usage
    assert chunk.output_tokens == (1 if usage is None else usage["completion_tokens"])


HEAD = '{"id":"1","object":"chat.completion.chunk","created":1,"model":"engine",'
COUNTED = '"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}'
CACHED = ',"prompt_tokens_details":{"cached_tokens":3}'
THOUGHT = ',"completion_tokens_details":{"reasoning_tokens":2}'


def with_details(wire: str, details: str) -> str:
    return wire.replace(COUNTED, f"{COUNTED[:-1]}{details}}}")


wires = st.sampled_from(
    [
        HEAD + '"choices":[{"index":0,"delta":{"content":%s}}],' + COUNTED + "}",
        HEAD + '"choices":[{"index":0,"delta":%s}],' + COUNTED + "}",
        HEAD + '"choices":[{"index":0,"delta":{}}],"x":%s,' + COUNTED + "}",
        HEAD + '"choices":[{"index":0,"delta":{}}],' + COUNTED + ',"x":%s}',
        HEAD + '"choices":[{"x":%s,' + COUNTED + "}]," + COUNTED + "}",
        HEAD + '"choices":[{"x":%s,' + COUNTED + "}]}",
        HEAD + '"choices":[{"index":0}],"choices":[{"x":%s}],' + COUNTED + "}",
        HEAD + '"error":%s,"choices":[{"index":0}],' + COUNTED + "}",
        HEAD + '"choices":[],"x":%s,' + COUNTED + "}",
        '{"id":"2","choices":[{"x":%s}],"model":"other",' + COUNTED + "}",
    ]
)


@given(
    wire=wires,
    value=values,
    cut=st.integers(0, 3),
    split=st.none() | st.floats(0, 1),
    put=st.sampled_from([None, b"\n", b"\ndata: "]),
    details=st.sampled_from(["", CACHED, THOUGHT, CACHED + THOUGHT, THOUGHT + CACHED]),
    cached_tokens=st.sampled_from([None, 0, 3, 9]),
)
def test_a_chunk_like_those_before_it_is_read_as_if_it_were_the_first(
    *,
    wire: str,
    value: Any,
    cut: int,
    split: float | None,
    put: bytes | None,
    details: str,
    cached_tokens: int | None,
) -> None:
    payload = (
        with_details(wire, details) % json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    ).encode()
    payload = payload[: len(payload) - cut]
    if split is not None:
        at = int(split * len(payload))
        if put is None:
            payload = payload[:at] + payload[at + 1 :]
        else:
            # Not before the first byte, which would leave an event of nothing.
            payload = payload[: max(at, 1)] + put + payload[max(at, 1) :]
    later, first = chunks(cached_tokens=cached_tokens), chunks(cached_tokens=cached_tokens)
    later.take(b"data: " + (HEAD + '"choices":[{"index":0}],' + COUNTED + "}").encode())

    def read(reader: Chunks) -> Any:
        try:
            chunk = reader.take(b"data: " + payload)
        except BadChunk:
            return None
        assert chunk is not None
        return chunk.client_bytes, chunk.usage

    assert read(later) == read(first)


@pytest.mark.parametrize("cached_tokens", [None, 3], ids=["not told", "told in a header"])
@pytest.mark.parametrize("details", [THOUGHT, ""], ids=["a chat", "a completion"])
def test_what_our_engine_writes_with_each_token_is_not_read_whole(
    cached_tokens: int | None, details: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That costs twice as much, and nothing else would tell."""
    first = HEAD + '"choices":[{"index":0,"delta":{"content":""}}],' + COUNTED + ',"prompt_token_ids":null}'
    later = HEAD + '"choices":[{"index":0,"delta":{"content":"a"},"token_ids":null}],' + COUNTED + "}"
    reader = chunks(cached_tokens=cached_tokens)
    reader.take(b"data: " + with_details(first, details).encode())
    monkeypatch.delattr(Chunks, "read")

    chunk = reader.take(b"data: " + with_details(later, details).encode())

    assert chunk is not None
    assert seen(chunk.client_bytes)["choices"][0]["delta"] == {"content": "a"}
    assert chunk.usage is not None
    told = json.loads(chunk.usage).get("prompt_tokens_details")
    assert told == (None if cached_tokens is None else {"cached_tokens": cached_tokens})


@given(include=st.booleans(), continuous=st.booleans())
def test_the_last_chunk_is_for_those_who_asked_for_it(include: bool, continuous: bool) -> None:
    reader = chunks(include_usage=include, continuous_usage=include and continuous)

    chunk = reader.read(sent({"id": "1", "model": "engine", "choices": [], "usage": counted(5)}))

    assert chunk.usage is not None
    if include:
        assert seen(chunk.client_bytes)["usage"] == counted(5)
    else:
        assert chunk.client_bytes == b""


@given(
    per_prompt=st.integers(1, 3),
    prompts=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 50)), max_size=30),
)
def test_counts_of_several_choices_are_those_of_the_whole_request(
    per_prompt: int, prompts: int, steps: list[tuple[int, int]]
) -> None:
    total = per_prompt * prompts
    reader = chunks(choices=total, choices_per_prompt=per_prompt)
    completions: dict[int, int] = {}
    for choice, tokens in steps:
        index = choice % total
        completions[index] = completions.get(index, 0) + tokens
        payload = {
            "choices": [delta("x", index=index)],
            "usage": counted(completions[index], prompt=10 + index // per_prompt),
        }

        chunk = reader.read(sent(payload))

        if total == 1:
            continue
        assert chunk.usage is not None
        usage = json.loads(chunk.usage)
        assert chunk.output_tokens == usage["completion_tokens"] == sum(completions.values())
        assert usage["prompt_tokens"] == sum(
            {i // per_prompt: 10 + i // per_prompt for i in completions}.values()
        )


def test_counts_never_go_back() -> None:
    reader = chunks()
    reader.read(sent({"choices": [delta("a")], "usage": counted(9)}))
    assert reader.read(sent({"choices": [delta("b")], "usage": counted(8)})).output_tokens == 9


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b'{"id":"1"}',
        b'{"error":{"message":"prompt text"}}',
        b'{"choices":[],"usage":{"completion_tokens":"many"}}',
        b'{"choices":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_what_is_no_chunk_is_said_without_quoting_it(payload: bytes) -> None:
    with pytest.raises(BadChunk) as failure:
        chunks(choices=2).read(payload)
    assert "prompt text" not in str(failure.value)


def test_an_oversized_usage_is_not_counted_but_the_slices_go_on() -> None:
    usage = counted(5) | {"padding": "x" * USAGE_BYTES_MAX}
    chunk = chunks().read(sent({"choices": [delta("a")], "usage": usage}))
    assert (chunk.usage, chunk.output_tokens) == (None, 1)


def test_a_stream_that_is_cut_short_ends_as_if_its_length_were_reached() -> None:
    reader = chunks(choices=3, include_usage=True)
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "engine"}
    for choice in (delta("a"), delta("b", index=1, finish="stop"), delta("c", index=2)):
        reader.handed_on(reader.read(sent(head | {"choices": [choice], "usage": counted(1)})))
    # One that was read but not handed on does not count as finished.
    reader.read(sent(head | {"choices": [delta("d", finish="stop")], "usage": counted(2)}))

    events = [seen(block + b"\n\n") for block in reader.cut_short(sent(counted(3))).split(b"\n\n") if block]

    assert [event["choices"][0] for event in events[:-1]] == [
        {"index": index, "delta": {}, "logprobs": None, "finish_reason": "length"} for index in (0, 2)
    ]
    assert (events[-1]["choices"], events[-1]["usage"]) == ([], counted(3))
    assert all(event | head | {"model": MODEL} == event for event in events)


def test_a_text_stream_that_is_cut_short_has_text_choices() -> None:
    reader = chunks(dialect=Dialect.OPENAI_COMPLETIONS)
    reader.read(sent({"id": "cmpl-1", "choices": [{"index": 0, "text": "a"}], "usage": counted(1)}))
    [event] = [seen(block + b"\n\n") for block in reader.cut_short(None).split(b"\n\n") if block]
    assert event["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
