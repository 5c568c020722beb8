"""Z.ai's own client, unmodified, against the gateway."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
import pytest
import zai
from zai.core import (
    APIAuthenticationError,
    APIReachLimitError,
    APIRequestFailedError,
    APIResponseError,
)

from headrace_contracts.access import Limit, LimitKind
from headrace_contracts.deployments import Thinking
from headrace_contracts.usage import Dialect, Ending
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

Answer = TypeVar("Answer")

HELLO = [{"role": "user", "content": "hello"}]
SAY = [{"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}]
SWITCHED = Thinking(switch="enable_thinking", clear_switch="clear_thinking")
"""As GLM-4.5 to 4.7 think."""
GRADED = Thinking(switch="enable_thinking", clear_switch="clear_thinking", efforts=["high", "max"])
"""As GLM-5.2 does."""
ALWAYS = Thinking(clear_switch="clear_thinking", efforts=["low", "high", "max"])
"""As GLM-5.3 does."""

GENERAL, CODING = "/api/paas/v4", "/api/coding/paas/v4"


@contextmanager
def client_of(stack: Stack, root: str = GENERAL, *, api_key: str | None = None) -> Iterator[zai.ZaiClient]:
    client = zai.ZaiClient(
        base_url=stack.url + root, api_key=api_key or stack.account.secret, max_retries=0, timeout=20
    )
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]


async def asked(stack: Stack, ask: Callable[[Any], Answer], root: str = GENERAL, **client: Any) -> Answer:
    """The client knows no coroutines, so it works in a thread of its own."""

    def work() -> Answer:
        with client_of(stack, root, **client) as opened:
            return ask(opened.chat.completions)

    return await asyncio.to_thread(work)


async def chunks_of(stack: Stack, **changes: Any) -> list[Any]:
    return await asked(
        stack, lambda chats: list(chats.create(model=MODEL, messages=HELLO, stream=True, **changes))
    )


async def test_a_completion_with_its_reasoning_and_its_usage(stack: Stack) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2))

    completion = await asked(
        stack, lambda chats: chats.create(model=MODEL, messages=HELLO, request_id="mine-1", max_tokens=50)
    )

    message = completion.choices[0].message
    assert (message.reasoning_content, message.content) == (" word1 word2", " word3 word4 word5")
    assert (completion.model, completion.request_id) == (MODEL, "mine-1")
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 5)
    assert completion.usage.prompt_tokens_details.cached_tokens == 3
    [event] = await stack.settled()
    assert event.dialect is Dialect.ZAI_CHAT
    assert (event.tokens.input_uncached, event.tokens.cache_read, event.tokens.output) == (4, 3, 5)


async def test_a_stream_ends_with_one_chunk_that_tells_the_end_and_the_usage(stack: Stack) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2))

    *chunks, last = await chunks_of(stack)

    assert "".join(chunk.choices[0].delta.reasoning_content or "" for chunk in chunks) == " word1 word2"
    said = [chunk.choices[0].delta.content or "" for chunk in [*chunks, last]]
    assert "".join(said) == " word3 word4 word5"
    assert all(chunk.usage is None and chunk.choices[0].finish_reason is None for chunk in chunks)
    assert last.choices[0].finish_reason == "stop"
    assert (last.usage.completion_tokens, last.usage.prompt_tokens_details.cached_tokens) == (5, 3)
    [event] = await stack.settled()
    assert (event.ending, event.tokens.cache_read, event.tokens.output) == (Ending.COMPLETED, 3, 5)


@pytest.mark.parametrize("tool_stream", [True, False])
async def test_a_tool_s_arguments_come_whole_unless_asked_for_as_they_are_written(
    stack: Stack, tool_stream: bool
) -> None:
    stack.engine.behave(Behaviour(tool=True, tokens=12))

    chunks = await chunks_of(stack, tools=SAY, tool_stream=tool_stream)

    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    written = "".join(call.function.arguments for call in calls)
    assert written.startswith('{"words":" word2 word3')
    assert written.endswith('"}')
    assert (calls[0].id, calls[0].function.name) == ("call_1", "say")
    assert (len(calls) == 1) is not tool_stream
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    [event] = await stack.settled()
    assert event.tokens.output == 12


async def test_a_caller_that_hangs_up_pays_the_last_count_it_was_given(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.01))

    def some(chats: Any) -> int:
        stream = chats.create(model=MODEL, messages=HELLO, stream=True)
        for number, _ in enumerate(stream):
            if number == 4:
                break
        stream.response.close()
        return number

    seen = await asked(stack, some)

    [event] = await stack.settled()
    assert event.ending is Ending.CLIENT_GONE
    await eventually(lambda: stack.engine.last.ending == "aborted")
    assert seen <= event.tokens.output <= stack.engine.last.yielded < 60


async def test_a_caller_that_hangs_up_while_a_tool_s_arguments_are_kept_back_pays_none_of_them(
    stack: Stack,
) -> None:
    stack.engine.behave(Behaviour(tokens=400, thinking_tokens=2, tool=True, before_each_seconds=0.005))

    def some(chats: Any) -> None:
        stream = chats.create(model=MODEL, messages=HELLO, stream=True, tools=SAY)
        for chunk in stream:
            if (chunk.choices[0].delta.reasoning_content or "").endswith("2"):
                break
        # The stream's next chunk is the call, some two seconds away.
        while stack.engine.last.yielded < 20:
            time.sleep(0.005)
        stream.response.close()

    await asked(stack, some)

    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.CLIENT_GONE, 2)
    assert stack.engine.last.yielded >= 20


async def test_money_that_ends_while_a_tool_s_arguments_are_kept_back_ends_the_stream(stack: Stack) -> None:
    stack.account.fund(200)
    stack.engine.behave(Behaviour(tokens=400, thinking_tokens=2, tool=True, before_each_seconds=0.001))

    chunks = await chunks_of(stack)

    last = chunks[-1]
    assert (last.choices[0].finish_reason, last.usage.completion_tokens) == ("length", 2)
    assert all(not chunk.choices[0].delta.tool_calls for chunk in chunks)
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.BUDGET_STOPPED, 2)


async def test_a_context_that_is_full_is_told_from_a_length_that_was_asked_for(stack: Stack) -> None:
    stack.engine.behave(*[Behaviour(finish="length")] * 2)
    assert (await chunks_of(stack))[-1].choices[0].finish_reason == "length"

    stack.offer(context_tokens=12)
    assert (await chunks_of(stack))[-1].choices[0].finish_reason == "model_context_window_exceeded"
    await stack.settled(2)


async def test_what_the_engine_withholds_is_sensitive(stack: Stack) -> None:
    stack.engine.behave(Behaviour(finish="content_filter"))
    completion = await asked(stack, lambda chats: chats.create(model=MODEL, messages=HELLO))
    assert completion.choices[0].finish_reason == "sensitive"
    await stack.settled()


@pytest.mark.parametrize(
    ("thinking", "asks", "engine"),
    [
        (None, {"thinking": {"type": "enabled"}}, {}),
        (SWITCHED, {}, {"chat_template_kwargs": {"clear_thinking": True}}),
        (
            SWITCHED,
            {"thinking": {"type": "disabled"}},
            {"chat_template_kwargs": {"enable_thinking": False, "clear_thinking": True}},
        ),
        (
            SWITCHED,
            {"thinking": {"type": "enabled", "clear_thinking": False}, "reasoning_effort": "low"},
            {"chat_template_kwargs": {"clear_thinking": False}},
        ),
        (
            GRADED,
            {"reasoning_effort": "low"},
            {"chat_template_kwargs": {"clear_thinking": True}, "reasoning_effort": "high"},
        ),
        (
            GRADED,
            {"reasoning_effort": "xhigh"},
            {"chat_template_kwargs": {"clear_thinking": True}, "reasoning_effort": "max"},
        ),
        (
            GRADED,
            {"reasoning_effort": "minimal"},
            {"chat_template_kwargs": {"enable_thinking": False, "clear_thinking": True}},
        ),
        (
            ALWAYS,
            {"reasoning_effort": "minimal"},
            {"chat_template_kwargs": {"clear_thinking": True}, "reasoning_effort": "low"},
        ),
        (
            Thinking(by_default=False, switch="enable_thinking"),
            {},
            {"chat_template_kwargs": {"enable_thinking": True}},
        ),
    ],
)
async def test_thinking_is_asked_for_as_the_model_knows_it(
    stack: Stack, thinking: Thinking | None, asks: dict[str, Any], engine: dict[str, Any]
) -> None:
    stack.offer(thinking=thinking)
    await asked(stack, lambda chats: chats.create(model=MODEL, messages=HELLO, **asks))

    told = {"chat_template_kwargs", "reasoning_effort", "thinking"}
    assert {name: value for name, value in stack.engine.last.body.items() if name in told} == engine
    await stack.settled()


@pytest.mark.parametrize("asks", [{"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}])
async def test_a_model_that_always_thinks_says_so_and_how_little_it_can(
    stack: Stack, asks: dict[str, Any]
) -> None:
    stack.offer(thinking=ALWAYS)
    with pytest.raises(APIRequestFailedError, match="reasoning_effort: low") as refused:
        await asked(stack, lambda chats: chats.create(model=MODEL, messages=HELLO, **asks))
    assert code_of(refused.value) == "1212"
    assert stack.account.events() == []


async def test_the_coding_endpoint_keeps_earlier_thinking(stack: Stack) -> None:
    stack.offer(thinking=SWITCHED)
    await asked(stack, lambda chats: chats.create(model=MODEL, messages=HELLO), CODING)
    assert stack.engine.last.body["chat_template_kwargs"] == {"clear_thinking": False}
    await stack.settled()


async def test_without_sampling_the_likeliest_token_is_taken_and_what_nobody_knows_goes_no_further(
    stack: Stack,
) -> None:
    await asked(
        stack,
        lambda chats: chats.create(
            model=MODEL,
            messages=HELLO,
            do_sample=False,
            top_p=0.5,
            seed=1,
            user_id="customer-1",
            meta={"a": "b"},
            extra_body={"n": 5, "priority": -1},
        ),
    )
    assert stack.engine.last.body == {"model": "engine-name", "messages": HELLO, "temperature": 0}
    await stack.settled()


async def test_a_request_id_is_used_once_but_for_requests_that_were_not_served(stack: Stack) -> None:
    def again(chats: Any) -> Any:
        return chats.create(model=MODEL, messages=HELLO, request_id="once-only")

    stack.engine.behave(Behaviour(status=500))
    with pytest.raises(zai.core.APIInternalError):
        await asked(stack, again)
    stack.account.push_key(limits=[Limit(kind=LimitKind.CONCURRENCY, ceiling=0)])
    with pytest.raises(APIReachLimitError):
        await asked(stack, again)
    stack.account.push_key()
    await eventually(lambda: not stack.account.client.keys("hr:request-id:*"))

    await asked(stack, again)
    with pytest.raises(APIRequestFailedError) as refused:
        await asked(stack, again)

    assert code_of(refused.value) == "1231"
    await stack.settled(2)


async def test_errors_have_z_ai_s_codes_and_classes(stack: Stack) -> None:
    with pytest.raises(APIAuthenticationError) as unknown:
        await asked(stack, lambda chats: chats.create(model=MODEL, messages=HELLO), api_key="hr-" + "x" * 43)
    with pytest.raises(APIRequestFailedError) as no_model:
        await asked(stack, lambda chats: chats.create(model="glm-none", messages=HELLO))
    with pytest.raises(APIRequestFailedError) as no_tool:
        await asked(
            stack,
            lambda chats: chats.create(model=MODEL, messages=HELLO, tools=[{"type": "web_search"}]),
        )
    stack.account.fund(1)
    with pytest.raises(APIReachLimitError) as no_money:
        await asked(stack, lambda chats: chats.create(model=MODEL, messages=HELLO))

    codes = [code_of(error.value) for error in (unknown, no_model, no_tool, no_money)]
    assert codes == ["1000", "1211", "1212", "1113"]
    assert stack.account.events() == []


async def test_a_limit_is_told_by_its_kind(stack: Stack) -> None:
    for kind, code in (
        (LimitKind.CONCURRENCY, "1302"),
        (LimitKind.REQUESTS_PER_MINUTE, "1303"),
        (LimitKind.TOKENS_PER_MINUTE, "1305"),
        (LimitKind.SPEND_DAY, "1304"),
        (LimitKind.SPEND_TOTAL, "1310"),
    ):
        stack.account.push_key(limits=[Limit(kind=kind, ceiling=0)])
        reply = await stack.http.post(f"{GENERAL}/chat/completions", json={"model": MODEL, "messages": HELLO})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, code), reply.text


async def test_a_stream_that_breaks_off_raises_in_the_client(stack: Stack) -> None:
    stack.engine.behave(Behaviour(break_after=2))
    with pytest.raises(APIResponseError) as broken:
        await chunks_of(stack)
    assert isinstance(broken.value.json_data, dict)
    assert broken.value.json_data["code"] == "1234"
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.UPSTREAM_FAILED, 2)


async def test_images_may_be_bare_base64(stack: Stack) -> None:
    stack.offer(image_tokens_max=500)
    image = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What is it?"}]

    # The client itself cuts off what a data URL begins with.
    await asked(
        stack,
        lambda chats: chats.create(model=MODEL, messages=[{"role": "user", "content": content}]),
    )

    assert stack.engine.last.body["messages"][0]["content"][0]["image_url"]["url"] == image
    await stack.settled()


@pytest.mark.parametrize("root", [GENERAL, CODING])
async def test_tokens_are_counted_and_models_listed_below_both_roots(stack: Stack, root: str) -> None:
    counted = (await stack.http.post(f"{root}/tokenizer", json={"model": MODEL, "messages": HELLO})).json()
    assert counted["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert {"id", "created", "request_id"} < set(counted)
    assert stack.engine.last.body == {"model": "engine-name", "messages": HELLO}
    assert [model["id"] for model in (await stack.http.get(f"{root}/models")).json()["data"]] == [MODEL]
    assert (await stack.http.get(f"{root}/models/glm-alias")).json()["id"] == MODEL
    assert stack.account.events() == []


@pytest.mark.parametrize(("root", "clears"), [(GENERAL, True), (CODING, False)])
@pytest.mark.parametrize(
    "asks", [{"reasoning_effort": "max"}, {"thinking": {"type": "disabled", "clear_thinking": False}}]
)
async def test_tokens_are_counted_in_the_prompt_that_a_chat_would_have(
    stack: Stack, root: str, clears: bool, asks: dict[str, Any]
) -> None:
    stack.offer(thinking=GRADED)
    thought = {"role": "assistant", "content": "hi", "reasoning_content": "they greet"}
    body = {"model": MODEL, "messages": [*HELLO, thought, *HELLO], **asks}
    for path in ("tokenizer", "chat/completions"):
        assert (await stack.http.post(f"{root}/{path}", json=body)).status_code == 200

    counted, chatted = (attempt.body for attempt in stack.engine.attempts)
    effort = {"reasoning_effort": "max"} if "reasoning_effort" in asks else {}
    assert counted["chat_template_kwargs"] == chatted["chat_template_kwargs"] | effort
    assert chatted.get("reasoning_effort") == effort.get("reasoning_effort")
    assert counted["chat_template_kwargs"]["clear_thinking"] is (clears if effort else False)
    # At a chat the engine knows both names, here it knows its own.
    assert counted["messages"][1] == {"role": "assistant", "content": "hi", "reasoning": "they greet"}
    await stack.settled()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messages": HELLO}, "1213"),
        ({"model": MODEL}, "1213"),
        ({"model": MODEL, "messages": "hello"}, "1214"),
        ({"model": MODEL, "messages": HELLO, "user_id": "short"}, "1214"),
        ({"model": MODEL, "messages": HELLO, "thinking": {"type": "often"}}, "1214"),
        ({"model": MODEL, "messages": HELLO, "reasoning_effort": "much"}, "1214"),
        ({"model": MODEL, "messages": HELLO, "max_tokens": 0}, "1214"),
        ({"model": MODEL, "messages": HELLO, "tools": SAY * 129}, "1214"),
        ([], "1210"),
    ],
)
async def test_what_can_t_be_a_request_is_named(stack: Stack, body: Any, code: str) -> None:
    reply = await stack.http.post(f"{GENERAL}/chat/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code), reply.text
    assert stack.engine.attempts == []


async def test_a_path_that_is_not_there_and_a_key_that_is_not_sent(stack: Stack) -> None:
    reply = await stack.http.get(f"{GENERAL}/nothing")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "1222")
    async with httpx2.AsyncClient(base_url=stack.url) as stranger:
        reply = await stranger.post(f"{GENERAL}/chat/completions", json={})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "1001")


def code_of(error: Any) -> str:
    code: str = error.response.json()["error"]["code"]
    return code
