"""What the gateway reads of a request and what it changes, nothing more."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.deployments import STOP_STRINGS_MAX
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.fields import NOT_FOR_CLIENTS
from headrace_gateway.dialects.openai_request import OpenAIRequest, decode_request
from headrace_gateway.errors import InvalidRequest, NotOffered
from tests.gateway.account import DEPLOYMENT, MODEL

CHAT, TEXT = Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS
OURS = {
    "model",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "messages",
    "best_of",
    "tools",
    "stop",
}
OURS |= {"use_beam_search", "prompt", *NOT_FOR_CLIENTS}


def read(dialect: Dialect = CHAT, **fields: Any) -> OpenAIRequest:
    needed: dict[str, Any] = {"messages": []} if dialect is CHAT else {"prompt": "hello"}
    return decode_request(json.dumps({"model": MODEL} | needed | fields).encode(), dialect)


def upstream(request: OpenAIRequest, output_tokens_max: int | None = None) -> Any:
    return json.loads(request.upstream_body(DEPLOYMENT, output_tokens_max=output_tokens_max, org="org_1"))


values = st.recursive(
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=10).filter(lambda name: name not in OURS), values, max_size=5))
def test_what_is_not_ours_reaches_the_engine_as_it_was(others: dict[str, Any]) -> None:
    body = upstream(read(**others))
    assert body == others | {"model": "engine-name", "messages": []}


@given(st.text(max_size=200))
def test_the_bound_of_a_prompt_is_never_below_its_bytes(text: str) -> None:
    request = read(messages=[{"role": "user", "content": text}])
    assert request.prompt_tokens_max(DEPLOYMENT) >= min(len(text.encode()), DEPLOYMENT.context_tokens)


def test_a_prompt_is_no_longer_than_the_context() -> None:
    assert read(messages=["x" * 100_000]).prompt_tokens_max(DEPLOYMENT) == DEPLOYMENT.context_tokens
    two = read(TEXT, prompt=["x" * 100_000, "y" * 100_000])
    assert two.prompt_tokens_max(DEPLOYMENT) == 2 * DEPLOYMENT.context_tokens


def test_tools_count_more_than_their_bytes_because_templates_spell_them_out() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert read(tools=tools).prompt_bytes > 2 * len(json.dumps(tools))
    calls = [{"role": "assistant", "tool_calls": [{"id": "1"}]}]
    assert read(messages=calls).prompt_bytes >= 2 * len(json.dumps(calls))


@pytest.mark.parametrize(
    ("fields", "field", "most"),
    [
        ({}, "max_tokens", None),
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"max_completion_tokens": 6}, "max_completion_tokens", 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", 6),
        ({"max_tokens": None}, "max_tokens", None),
    ],
)
def test_the_output_bound_stands_in_one_field(fields: dict[str, Any], field: str, most: int | None) -> None:
    request = read(**fields)
    assert request.output_tokens_max == most
    clamped = upstream(request, 3)
    assert {name: clamped.get(name) for name in ("max_tokens", "max_completion_tokens")} == {
        "max_tokens": None,
        "max_completion_tokens": None,
    } | {field: 3}


def test_a_text_completion_without_a_bound_has_the_protocol_s_default() -> None:
    request = read(TEXT)
    assert request.output_tokens_max == 16
    assert upstream(request, 16)["max_tokens"] == 16


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("hello", 1), ("", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a"], 1)],
)
def test_prompts_are_counted_because_each_is_answered(prompt: Any, count: int) -> None:
    request = read(TEXT, prompt=prompt, n=2)
    assert (request.prompts, request.choices) == (count, 2 * count)


@pytest.mark.parametrize("prompt", [None, [], 5, {"a": 1}, [{"a": 1}], [["a"]]])
def test_what_is_no_prompt(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read(TEXT, prompt=prompt)
    assert refusal.value.param == "prompt"


def test_prompts_are_bounded_without_a_number_of_choices_too() -> None:
    assert read(TEXT, prompt=["a"] * 128).choices == 128
    with pytest.raises(InvalidRequest, match="at most 128 prompts") as refused:
        read(TEXT, prompt=["a"] * 129)
    assert refused.value.param == "prompt"


def test_choices_and_prompts_are_bounded_together() -> None:
    with pytest.raises(InvalidRequest):
        read(TEXT, prompt=["a"] * 65, n=2)


@pytest.mark.parametrize(
    ("options", "include", "continuous"),
    [
        (None, False, False),
        ({}, False, False),
        ({"include_usage": None}, False, False),
        ({"include_usage": True}, True, False),
        ({"include_usage": True, "continuous_usage_stats": True}, True, True),
        ({"continuous_usage_stats": True}, False, False),
    ],
)
def test_the_engine_always_counts_and_the_client_sees_what_it_asked_for(
    options: Any, include: bool, continuous: bool
) -> None:
    request = read(stream=True, stream_options=options)
    assert (request.include_usage, request.continuous_usage) == (include, continuous)
    assert upstream(request)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_an_invalid_one(body: bytes) -> None:
    for dialect in (CHAT, TEXT):
        with contextlib.suppress(InvalidRequest):
            decode_request(body, dialect)


@pytest.mark.parametrize("dialect", [CHAT, TEXT])
def test_no_more_strings_to_stop_at_than_an_engine_takes(dialect: Dialect) -> None:
    stops = [str(number) for number in range(STOP_STRINGS_MAX)]
    assert upstream(read(dialect, stop=stops))["stop"] == stops
    assert upstream(read(dialect, stop="x" * 1000))["stop"] == "x" * 1000
    wrongs: list[Any] = [[*stops, "one more"], [1], {}]
    for wrong in wrongs:
        with pytest.raises(InvalidRequest, match="`stop` must be") as refusal:
            read(dialect, stop=wrong)
        assert refusal.value.param == "stop"


def test_tools_that_somebody_else_would_run_are_refused_by_name() -> None:
    function = {"type": "function", "function": {"name": "say"}}
    assert upstream(read(tools=[function]))["tools"] == [function]
    with pytest.raises(NotOffered, match="'web_search' are not run here") as refusal:
        read(tools=[function, {"type": "web_search"}])
    assert refusal.value.param == "tools[1].type"


@pytest.mark.parametrize(
    "tool", [{"type": "function"}, {"type": "function", "function": {}}, {"type": "function", "name": "say"}]
)
def test_a_function_without_a_name_is_refused_as_the_engine_may_fail_at_it(tool: dict[str, Any]) -> None:
    function = {"type": "function", "function": {"name": "say"}}
    with pytest.raises(InvalidRequest, match="must have a `name`") as refusal:
        read(tools=[function, tool], tool_choice=function)
    assert refusal.value.param == "tools[1].function"
