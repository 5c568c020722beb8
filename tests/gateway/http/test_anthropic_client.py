"""Anthropic's own client, unmodified, against the gateway."""

from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam

from headrace_contracts.deployments import Thinking
from headrace_contracts.usage import Dialect, Ending
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]


def client_of(stack: Stack, *, api_key: str | None = None) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=stack.url, api_key=api_key or stack.account.secret, max_retries=0, timeout=20
    )


async def test_a_message_counts_cached_tokens_once(stack: Stack) -> None:
    async with client_of(stack) as client:
        message = await client.messages.create(model=MODEL, max_tokens=50, messages=HELLO)

    assert [block.type for block in message.content] == ["text"]
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (4, 3, 5)
    [event] = await stack.settled()
    assert event.dialect is Dialect.ANTHROPIC_MESSAGES
    assert (event.tokens.input_uncached, event.tokens.cache_read, event.tokens.output) == (4, 3, 5)


@pytest.mark.parametrize("running_counts", [True, False])
async def test_a_stream_with_thinking_is_billed_to_the_token(stack: Stack, running_counts: bool) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2, continuous_usage=running_counts))
    async with (
        client_of(stack) as client,
        client.messages.stream(model=MODEL, max_tokens=50, messages=HELLO) as stream,
    ):
        message = await stream.get_final_message()

    assert [block.type for block in message.content] == ["thinking", "text"]
    assert (message.model, message.usage.output_tokens) == (MODEL, 5)
    [event] = await stack.settled()
    assert event.ending is Ending.COMPLETED
    assert (event.tokens.input_uncached, event.tokens.cache_read, event.tokens.output) == (4, 3, 5)


@pytest.mark.parametrize(
    ("running_counts", "told"),
    [
        (True, {"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 0}),
        (False, {"input_tokens": 7, "output_tokens": 0}),
    ],
)
async def test_a_stream_s_first_event_tells_what_was_cached_where_it_is_known(
    stack: Stack, running_counts: bool, told: dict[str, int]
) -> None:
    """Clients that add up what they were told take the prompt from there, and the output from the last event."""
    stack.engine.behave(Behaviour(continuous_usage=running_counts))
    async with client_of(stack) as client:
        stream = await client.messages.create(model=MODEL, max_tokens=50, messages=HELLO, stream=True)
        first, *_ = [event async for event in stream]

    assert first.type == "message_start"
    assert first.message.usage.to_dict() == told
    [event] = await stack.settled()
    assert (event.tokens.input_uncached, event.tokens.cache_read) == (4, 3)


SWITCHED = Thinking(switch="enable_thinking", efforts=["high", "max"])
OFF = {"enable_thinking": False}
ENABLED: Any = {"type": "enabled", "budget_tokens": 1024}
ADAPTIVE: Any = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("thinking", "asks", "told"),
    [
        (SWITCHED, {}, OFF),
        (SWITCHED, {"thinking": {"type": "disabled"}}, OFF),
        (SWITCHED, {"thinking": ENABLED}, None),
        (SWITCHED, {"thinking": ADAPTIVE}, None),
        (SWITCHED, {"output_config": {"effort": "high"}}, OFF),
        (SWITCHED, {"chat_template_kwargs": {"other": 1}}, OFF | {"other": 1}),
        (SWITCHED, {"chat_template_kwargs": {"enable_thinking": True}}, {"enable_thinking": True}),
        (Thinking(by_default=False, switch="enable_thinking"), {}, None),
        (Thinking(by_default=False, switch="think"), {"thinking": ADAPTIVE}, {"think": True}),
        (Thinking(efforts=["low", "high"]), {}, None),
        (None, {}, None),
    ],
)
async def test_a_model_thinks_for_those_who_ask_for_it_if_it_can_be_told(
    stack: Stack, thinking: Thinking | None, asks: dict[str, Any], told: dict[str, Any] | None
) -> None:
    stack.offer(thinking=thinking)
    async with client_of(stack) as client:
        await client.messages.create(model=MODEL, max_tokens=2000, messages=HELLO, extra_body=asks)
        assert stack.engine.last.body.get("chat_template_kwargs") == told
        await client.messages.count_tokens(model=MODEL, messages=HELLO, extra_body=asks)
        assert stack.engine.last.body.get("chat_template_kwargs") == told
    await stack.settled()


@pytest.mark.parametrize(
    ("micros", "thinking"),
    [(2000, ENABLED), (500, ADAPTIVE)],
    ids=["enough for both", "less than the budget"],
)
async def test_a_budget_for_thinking_that_the_money_does_not_pay_for_is_no_reason_to_fail(
    stack: Stack, micros: int, thinking: Any
) -> None:
    """An engine refuses a budget that is not below `max_tokens`, which is lowered to what can be paid."""
    stack.account.fund(micros)
    async with client_of(stack) as client:
        await client.messages.create(model=MODEL, max_tokens=4000, messages=HELLO, thinking=ENABLED)

    body = stack.engine.last.body
    assert 0 < body["max_tokens"] < 4000
    assert body["thinking"] == thinking
    await stack.settled()


async def test_a_tool_is_called_through_a_stream(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tool=True))
    async with (
        client_of(stack) as client,
        client.messages.stream(
            model=MODEL,
            max_tokens=50,
            messages=HELLO,
            tools=[{"name": "say", "input_schema": {"type": "object"}}],
        ) as stream,
    ):
        message = await stream.get_final_message()

    assert message.stop_reason == "tool_use"
    await stack.settled()


async def test_a_caller_that_hangs_up_pays_the_last_count_it_was_given(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.01))
    async with client_of(stack) as client:
        stream = await client.messages.create(model=MODEL, max_tokens=500, messages=HELLO, stream=True)
        deltas = 0
        async for event in stream:
            deltas += event.type == "content_block_delta"
            if deltas == 4:
                break
        await stream.close()

    [billed] = await stack.settled()
    assert billed.ending is Ending.CLIENT_GONE
    assert billed.tokens.cache_read == 3
    await eventually(lambda: stack.engine.last.ending == "aborted")
    assert deltas <= billed.tokens.output <= stack.engine.last.yielded < 60


async def test_counting_tokens_is_free_and_needs_a_key(stack: Stack) -> None:
    async with client_of(stack) as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=HELLO)
    assert counted.input_tokens == 7
    assert stack.account.events() == []

    async with client_of(stack, api_key="hr-" + "x" * 43) as stranger:
        with pytest.raises(anthropic.AuthenticationError):
            await stranger.messages.count_tokens(model=MODEL, messages=HELLO)


@pytest.mark.parametrize("root", ["", "/api/anthropic"])
async def test_models_are_listed_as_anthropic_s_client_reads_them(stack: Stack, root: str) -> None:
    stack.offer(released_at=1_790_000_000)
    async with client_of(stack).with_options(base_url=f"{stack.url}{root}") as client:
        page = await client.models.list()
        one = await client.models.retrieve(MODEL)
        with pytest.raises(anthropic.NotFoundError) as refused:
            await client.models.retrieve("glm-none")

    assert [(model.id, model.type, model.display_name) for model in page.data] == [(MODEL, "model", MODEL)]
    assert (page.first_id, page.last_id, page.has_more) == (MODEL, MODEL, False)
    assert one == page.data[0]
    assert int(one.created_at.timestamp()) == 1_790_000_000
    body: Any = refused.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")


async def test_models_are_openai_s_to_whoever_does_not_say_who_it_is(stack: Stack) -> None:
    reply = await stack.http.get(
        "/v1/models", headers={"authorization": "", "x-api-key": stack.account.secret}
    )
    assert reply.json()["object"] == "list"
    reply = await stack.http.get("/v1/models/glm-none")
    assert reply.json()["error"]["param"] is None


async def test_whatever_is_refused_below_z_ai_s_path_is_in_anthropic_s_shape(stack: Stack) -> None:
    for path in ("/api/anthropic", "/api/anthropic/v1/complete", "/api/anthropic/v1/messages/batches"):
        reply = await stack.http.post(path, json={})
        assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found_error")


async def test_an_empty_key_header_is_none(stack: Stack) -> None:
    body = {"model": MODEL, "messages": HELLO}
    ask = "/v1/messages/count_tokens"
    assert (await stack.http.post(ask, json=body, headers={"x-api-key": ""})).status_code == 200
    reply = await stack.http.post(ask, json=body, headers={"x-api-key": "", "authorization": ""})
    assert reply.status_code == 401
    assert "`x-api-key: <key>`" in reply.json()["error"]["message"]


async def test_an_unknown_model_is_refused_in_anthropic_s_shape(stack: Stack) -> None:
    async with client_of(stack) as client:
        with pytest.raises(anthropic.NotFoundError) as refused:
            await client.messages.create(model="glm-none", max_tokens=5, messages=HELLO)
    body = refused.value.body
    assert isinstance(body, dict)
    assert (body["error"]["type"], body["error"]["code"]) == ("not_found_error", "model_not_found")
