"""An agent's conversation through Anthropic's own client: long, with tools, thinking, images and interruptions."""

from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, TextBlockParam, ToolParam

from headrace_contracts.access import Limit, LimitKind
from headrace_contracts.usage import Ending
from tests.gateway.account import MODEL
from tests.gateway.http.stack import BODY_BYTES_MAX, Stack
from tests.gateway.http.test_anthropic_client import HELLO, client_of
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

SYSTEM: list[TextBlockParam] = [
    {"type": "text", "text": "You mend bicycles. " * 40, "cache_control": {"type": "ephemeral"}}
]
TOOLS: list[ToolParam] = [
    {"name": "say", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
]
THINKS: Any = {"type": "enabled", "budget_tokens": 1024}


async def test_a_conversation_with_tools_is_hung_up_on_and_resumed(stack: Stack) -> None:
    stack.engine.default = Behaviour(thinking_tokens=2, tool=True, tokens=8)
    turns: list[Any] = [{"role": "user", "content": "Mend it."}]
    asked: Any = {
        "model": MODEL,
        "max_tokens": 2000,
        "system": SYSTEM,
        "tools": TOOLS,
        "thinking": THINKS,
        "extra_headers": {"anthropic-beta": "interleaved-thinking-2025-05-14"},
    }
    async with client_of(stack) as client:
        for _ in range(3):
            counted = await client.messages.count_tokens(
                model=MODEL, messages=turns, system=SYSTEM, tools=TOOLS, thinking=THINKS
            )
            assert counted.input_tokens == 7
            async with client.messages.stream(messages=turns, **asked) as stream:
                message = await stream.get_final_message()
            assert [block.type for block in message.content] == ["thinking", "tool_use"]
            call = message.content[-1]
            assert call.type == "tool_use"
            turns += [
                {"role": "assistant", "content": [block.model_dump() for block in message.content]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": call.id,
                            "content": [{"type": "text", "text": "done"}],
                        }
                    ],
                },
            ]

        stack.engine.behave(Behaviour(tokens=400, thinking_tokens=400, before_each_seconds=0.01))
        hung_up = await client.messages.create(messages=turns, stream=True, **asked)
        deltas = 0
        async for event in hung_up:
            deltas += event.type == "content_block_delta"
            if deltas == 5:
                break
        await hung_up.close()
        stack.engine.behave(Behaviour(tokens=3))
        message = await client.messages.create(messages=turns, **asked)

    assert message.stop_reason == "end_turn"
    events = await stack.settled(5)
    by_ending = {ending: [each for each in events if each.ending is ending] for ending in Ending}
    assert [each.tokens.output for each in by_ending[Ending.COMPLETED]] == [8, 8, 8, 3]
    [interrupted] = by_ending[Ending.CLIENT_GONE]
    attempts = {attempt.id: attempt for attempt in stack.engine.attempts}
    await eventually(lambda: attempts[f"{interrupted.id}.1"].ending == "aborted")
    assert deltas <= interrupted.tokens.output <= attempts[f"{interrupted.id}.1"].yielded < 60

    last = stack.engine.last
    assert (last.body["system"], last.body["tools"], last.body["thinking"]) == (SYSTEM, TOOLS, THINKS)
    assert last.body["messages"] == turns
    assert last.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert last.headers["anthropic-version"].startswith("20")


async def test_money_that_ends_in_the_middle_ends_the_message_for_the_client(stack: Stack) -> None:
    stack.account.fund(300)
    stack.engine.behave(Behaviour(tokens=600, thinking_tokens=5, before_each_seconds=0.001))
    async with (
        client_of(stack) as client,
        client.messages.stream(model=MODEL, max_tokens=1000, messages=HELLO) as stream,
    ):
        message = await stream.get_final_message()

    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.stop_reason == "max_tokens"
    [event] = await stack.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (4, 3)
    assert usage.output_tokens == event.tokens.output
    assert 300 - 10 < event.tokens.total <= 300
    await eventually(lambda: stack.engine.last.ending == "aborted")


async def test_refusals_are_of_the_client_s_own_classes(stack: Stack) -> None:
    async def refused(kind: type[anthropic.APIStatusError], content: str = "hello") -> tuple[int, str, str]:
        messages: list[MessageParam] = [{"role": "user", "content": content}]
        async with client_of(stack) as client:
            with pytest.raises(kind) as error:
                await client.messages.create(model=MODEL, max_tokens=5, messages=messages)
        body: Any = error.value.body
        return error.value.status_code, body["error"]["type"], body["error"]["code"]

    assert await refused(anthropic.RequestTooLargeError, "x" * BODY_BYTES_MAX) == (
        413,
        "request_too_large",
        "body_too_large",
    )
    stack.account.push_key(limits=[Limit(kind=LimitKind.CONCURRENCY, ceiling=0)])
    assert await refused(anthropic.RateLimitError) == (429, "rate_limit_error", "rate_limited")
    stack.account.push_key(models=["another"])
    assert await refused(anthropic.PermissionDeniedError) == (403, "permission_error", "model_not_allowed")
    stack.account.push_key()
    stack.account.fund(1)
    assert await refused(anthropic.APIStatusError) == (402, "billing_error", "insufficient_balance")
    assert stack.account.events() == []
    assert stack.engine.attempts == []


async def test_the_dialect_is_spoken_below_z_ai_s_path_too(stack: Stack) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=f"{stack.url}/api/anthropic", auth_token=stack.account.secret, max_retries=0, timeout=20
    ) as client:
        assert (await client.messages.count_tokens(model=MODEL, messages=HELLO)).input_tokens == 7
        message = await client.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
        with pytest.raises(anthropic.NotFoundError) as refused:
            await client.messages.create(model="glm-none", max_tokens=5, messages=HELLO)

    assert message.usage.output_tokens == 5
    body: Any = refused.value.body
    assert body["error"]["type"] == "not_found_error"
    assert stack.engine.last.path == "/v1/messages"
    await stack.settled()


async def test_a_header_that_is_too_long_for_a_list_of_features_goes_no_further(stack: Stack) -> None:
    body = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
    await stack.http.post("/v1/messages", json=body, headers={"anthropic-beta": "x" * 1025})

    assert "anthropic-beta" not in stack.engine.last.headers
    await stack.settled()


FOUND = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}


def said_by(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}, {"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("asks", "param", "advice"),
    [
        (said_by("user", DOCUMENT), "messages[1].content[0].type", "text"),
        (
            said_by("user", {"type": "tool_result", "tool_use_id": "c", "content": [DOCUMENT]}),
            "messages[1].content[0].content[0].type",
            "text",
        ),
        (said_by("user", {"type": "search_result"}), "messages[1].content[0].type", "text"),
        (
            said_by("assistant", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
            "messages[1].content[0].type",
            "Leave it out",
        ),
        (said_by("assistant", FOUND), "messages[1].content[0].type", "Leave it out"),
        (
            {"tools": [*TOOLS, {"type": "web_search_20250305", "name": "web_search"}]},
            "tools[1].type",
            "run it yourself",
        ),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type", "run it yourself"),
        (
            {"mcp_servers": [{"type": "url", "name": "m", "url": "https://mcp.example.com"}]},
            "mcp_servers",
            "`tools`",
        ),
        ({"stop_sequences": [str(number) for number in range(17)]}, "stop_sequences", "at most 16"),
    ],
)
async def test_what_no_engine_reads_is_refused_with_what_to_send_instead(
    stack: Stack, asks: dict[str, Any], param: str, advice: str
) -> None:
    body = {"model": MODEL, "max_tokens": 5, "messages": HELLO} | asks
    paths = ("/v1/messages", "/v1/messages/count_tokens")
    for path in paths[: 1 if "stop_sequences" in asks else None]:
        reply = await stack.http.post(path, json=body)
        error = reply.json()["error"]
        assert (reply.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert error["code"] == ("invalid_request" if "stop_sequences" in asks else "not_offered")
        assert advice in error["message"]
    assert stack.engine.attempts == []


async def test_tools_and_blocks_that_a_client_runs_itself_pass(stack: Stack) -> None:
    result = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "document"}]}
    asks = said_by("user", result, {"type": "text", "text": '{"type": "document"}'})
    asks |= {"tools": [TOOLS[0] | {"type": "custom"}], "stop_sequences": [str(each) for each in range(16)]}
    asks |= {"mcp_servers": []}
    reply = await stack.http.post("/v1/messages", json={"model": MODEL, "max_tokens": 5} | asks)
    assert reply.status_code == 200, reply.text
    assert stack.engine.last.body["messages"] == asks["messages"]
    await stack.settled()


LIMIT = "This model's maximum context length is 8192 tokens. However, your prompt contains "


@pytest.mark.parametrize(
    ("engine_says", "client_reads"),
    [
        (LIMIT + "9000 input tokens, which exceeds this limit.", "9000 tokens > 8192 maximum"),
        (LIMIT + "at least 8193 input tokens, which exceeds it.", "8193 tokens > 8192 maximum"),
        (LIMIT + "99999 characters (more than 81920 characters).", "8193 tokens > 8192 maximum"),
        (
            "Input length (9000) exceeds model's maximum context length (8192).",
            "9000 tokens > 8192 maximum",
        ),
        (
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Be brief.",
            "9000 tokens > 8192 maximum",
        ),
        ("Beyond the context length.", "Beyond the context length."),
    ],
)
async def test_a_prompt_that_is_too_long_is_so_in_words_that_agents_know(
    stack: Stack, engine_says: str, client_reads: str
) -> None:
    stack.engine.behave(Behaviour(status=400, error=engine_says))
    async with client_of(stack) as client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            await client.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    body: Any = refused.value.body
    assert (body["error"]["type"], body["error"]["code"]) == (
        "invalid_request_error",
        "context_length_exceeded",
    )
    assert body["error"]["message"] == f"prompt is too long: {client_reads}"
    await stack.settled()
