"""Guardrails before and after the model, through real clients: what is refused, what is withheld, what is billed."""

import json
from collections.abc import AsyncIterator, Callable, Hashable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from headrace_contracts.deployments import Hearing, Task
from headrace_contracts.usage import Ending
from headrace_gateway.guardrails.guardrail import About
from headrace_gateway.guardrails.guards import PlugIn
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import MODEL, Account
from tests.gateway.dialects.recordings import wav
from tests.gateway.http.stack import Stack, chat, running_stack
from tests.support.upstream import Behaviour

FILE = """
[[pattern]]
name = "secret-word"
expression = "xyzzy|word4"
"""
SAYS = 8
GIVEN = 3
"""Of eight words, the fourth is refused."""


class Broken:
    """A guardrail whose service is away."""

    async def refuses(self, texts: list[str], about: About) -> str | None:
        if "fail" in texts[0]:
            raise ConnectionError(texts[0])
        return None

    def watch(self, about: About) -> "Broken.Watch":
        return Broken.Watch()

    class Watch:
        async def refuses(self, text: str, part: Hashable) -> str | None:
            if "word2" in text:
                raise ConnectionError(text)
            return None


@pytest.fixture
async def stack(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], tmp_path: Path
) -> AsyncIterator[Stack]:
    file = tmp_path / "patterns.toml"
    file.write_text(FILE)
    patterns = PlugIn("headrace_gateway.guardrails.patterns:Patterns", {"file": str(file)})
    async with running_stack(account, settings, unused_port(), guards=[patterns]) as running:
        running.engine.default = Behaviour(tokens=SAYS)
        yield running


@pytest.fixture
async def broken(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    plug_in = PlugIn("tests.gateway.http.test_guardrails:Broken")
    async with running_stack(account, settings, unused_port(), guards=[plug_in]) as running:
        yield running


async def the_event(stack: Stack) -> tuple[Ending, int, int]:
    [event] = await stack.settled()
    return event.ending, event.tokens.input_uncached + event.tokens.cache_read, event.tokens.output_visible


CALLED = {
    "role": "assistant",
    "tool_calls": [
        {
            "id": "c",
            "type": "function",
            "function": {"name": "n", "arguments": '{"url": "\\u0078yzzy"}'},
        }
    ],
}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "say xyzzy"}]}),
    ("/v1/completions", {"prompt": "say xyzzy"}),
    ("/v1/responses", {"input": "say xyzzy"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "say xyzzy"}], "max_tokens": 9}),
    ("/api/paas/v4/chat/completions", {"messages": [{"role": "user", "content": "say xyzzy"}]}),
    # In what a template may write out, or a grammar.
    ("/v1/chat/completions", {**chat(), "documents": [{"title": "t", "url": "xyzzy"}]}),
    ("/v1/chat/completions", {**chat(), "chat_template_kwargs": {"persona": "xyzzy"}}),
    (
        "/v1/chat/completions",
        {
            **chat(),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"description": "xyzzy"}},
            },
        },
    ),
    ("/v1/responses", {"input": "hello", "text": {"format": {"type": "text", "description": "xyzzy"}}}),
    # In what a tool was called with, under a name that beside a text would be none.
    ("/v1/chat/completions", {"messages": [CALLED]}),
    ("/api/paas/v4/chat/completions", {"messages": [CALLED]}),
    (
        "/v1/messages",
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "c", "name": "n", "input": {"data": ["xyzzy"]}}],
                }
            ],
            "max_tokens": 9,
        },
    ),
    (
        "/v1/responses",
        {
            "input": [
                {"type": "function_call", "call_id": "c", "name": "n", "arguments": '{"id": "\\u0078yzzy"}'}
            ]
        },
    ),
]


@pytest.mark.parametrize(("path", "fields"), REQUESTS)
async def test_a_refused_request_reaches_no_model_and_costs_nothing(
    stack: Stack, path: str, fields: dict[str, Any]
) -> None:
    answer = await stack.http.post(path, json={"model": MODEL, **fields})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert "secret-word" in error["message"]
    assert "xyzzy" not in answer.text
    assert (error["code"], error["type"]) in [
        ("content_refused", "invalid_request_error"),
        ("1301", "content_refused"),
    ]
    assert not stack.engine.attempts
    assert not stack.account.events()


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]]])
async def test_a_prompt_of_tokens_is_refused_as_no_guardrail_can_read_it(stack: Stack, prompt: Any) -> None:
    answer = await stack.http.post("/v1/completions", json={"model": MODEL, "prompt": prompt})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "content_refused")
    assert "tokens" in error["message"]
    assert not stack.engine.attempts


async def test_a_whole_answer_is_withheld_and_its_output_is_free(stack: Stack) -> None:
    completion = await stack.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], n=2
    )
    assert [(each.finish_reason, each.message.content) for each in completion.choices] == [
        ("content_filter", "")
    ] * 2
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 0)
    assert await the_event(stack) == (Ending.WITHHELD, 7, 0)


async def test_a_stream_ends_before_what_is_refused_and_bills_what_came_before(stack: Stack) -> None:
    said, finishes = "", []
    async for chunk in await stack.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], stream=True
    ):
        said += chunk.choices[0].delta.content or ""
        finishes.append(chunk.choices[0].finish_reason)
    assert said == " word1 word2 word3"
    assert finishes[-1] == "content_filter"
    assert await the_event(stack) == (Ending.WITHHELD, 7, GIVEN)


async def test_an_anthropic_client_sees_a_refusal(stack: Stack) -> None:
    client = anthropic.AsyncAnthropic(base_url=stack.url, api_key=stack.account.secret, max_retries=0)
    async with client:
        whole = await client.messages.create(
            model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "hello"}]
        )
        assert (whole.stop_reason, whole.content, whole.usage.output_tokens) == ("refusal", [], 0)
        async with client.messages.stream(
            model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "hello"}]
        ) as stream:
            message = await stream.get_final_message()
    assert message.stop_reason == "refusal"
    [block] = message.content
    assert block.type == "text"
    assert block.text == " word1 word2 word3"
    assert [event.ending for event in await stack.settled(2)] == [Ending.WITHHELD] * 2


async def test_what_a_model_calls_a_tool_with_is_looked_at_too(stack: Stack) -> None:
    stack.engine.default = Behaviour(tokens=SAYS, tool=True)
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 50, **chat()}
    message = await stack.http.post("/v1/messages", json=asked)
    assert (message.json()["stop_reason"], message.json()["content"]) == ("refusal", [])
    completion = await stack.http.post("/v1/chat/completions", json=asked)
    assert completion.json()["choices"][0]["finish_reason"] == "content_filter"
    assert "word" not in completion.text
    assert [event.ending for event in await stack.settled(2)] == [Ending.WITHHELD] * 2


async def test_a_z_ai_client_sees_sensitive(stack: Stack) -> None:
    path, fields = "/api/paas/v4/chat/completions", {"model": MODEL, "messages": chat()["messages"]}
    [whole] = (await stack.http.post(path, json=fields)).json()["choices"]
    assert (whole["finish_reason"], whole["message"]["content"]) == ("sensitive", "")
    stream = (await stack.http.post(path, json=fields | {"stream": True})).text
    chunks = [json.loads(line.removeprefix("data: ")) for line in stream.split("\n\n") if "{" in line]
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == " word1 word2 word3"
    assert chunks[-1]["choices"][0]["finish_reason"] == "sensitive"
    assert chunks[-1]["usage"]["completion_tokens"] == GIVEN


async def test_of_a_withheld_response_nothing_is_kept_that_was_not_given(stack: Stack) -> None:
    whole = await stack.openai.responses.create(model=MODEL, input="hello")
    assert whole.incomplete_details is not None
    assert (whole.status, whole.incomplete_details.reason, whole.output) == (
        "incomplete",
        "content_filter",
        [],
    )
    kept = await stack.openai.responses.retrieve(whole.id)
    assert kept.output == []
    async with stack.openai.responses.stream(model=MODEL, input="hello") as stream:
        events = [event async for event in stream]
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "content_filter"
    assert (await stack.openai.responses.retrieve(last.response.id)).output_text == " word1 word2 word3"


@pytest.mark.parametrize("tool", [False, True])
async def test_a_conversation_goes_on_from_a_response_that_ended_before_its_text_or_amid_a_call(
    stack: Stack, tool: bool
) -> None:
    """An engine fails at a message without parts, and at arguments that end anywhere."""
    thinks = 0 if tool else GIVEN
    stack.engine.default = Behaviour(tokens=SAYS, thinking_tokens=thinks, tool=tool)
    stream = await stack.openai.responses.create(model=MODEL, input="hello", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    [given] = last.response.output
    assert given.type == ("function_call" if tool else "reasoning")

    stack.engine.default = Behaviour(tokens=GIVEN)
    await stack.openai.responses.create(model=MODEL, input="and?", previous_response_id=last.response.id)
    sent = stack.engine.last.body["input"]
    assert [item.get("type") for item in sent] == ([None, None] if tool else [None, "reasoning", None])


async def test_a_repeated_request_is_given_the_withheld_answer_again(stack: Stack) -> None:
    answers = [
        await stack.http.post("/v1/chat/completions", json=chat(), headers={"idempotency-key": "once"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert "word" not in answers[1].text
    assert await the_event(stack) == (Ending.WITHHELD, 7, 0)


async def test_what_is_not_refused_passes_as_it_came(stack: Stack, gateways: list[Stack]) -> None:
    told = []
    for each in (stack, gateways[0]):
        each.engine.default = Behaviour(tokens=3, thinking_tokens=1)
        events = await each.events_of()
        told.append([{**event, "id": ""} if isinstance(event, dict) else event for event in events])
    assert told[0] == told[1]


async def test_a_guardrail_that_fails_lets_no_request_through(broken: Stack) -> None:
    answer = await broken.post(messages=[{"role": "user", "content": "fail"}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "guardrail_failed")
    assert answer.headers["retry-after"] == "1"
    assert not broken.engine.attempts


async def test_a_guardrail_that_fails_lets_no_answer_through(broken: Stack) -> None:
    whole = await broken.post()
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "guardrail_failed")
    assert "word" not in whole.text
    *chunks, last = [event for event in await broken.events_of() if isinstance(event, dict)]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", " word1"]
    assert last["error"]["code"] == "guardrail_failed"
    outputs = [event.tokens.output_visible for event in await broken.settled(2)]
    assert outputs == [0, 1]


TRANSCRIPTIONS = ("/v1/audio/transcriptions", "/api/paas/v4/audio/transcriptions")


@pytest.mark.parametrize("path", TRANSCRIPTIONS)
@pytest.mark.parametrize("streamed", ["true", "false"])
async def test_what_was_heard_is_looked_at_as_what_was_written(
    stack: Stack, path: str, streamed: str
) -> None:
    stack.offer(task=Task.TRANSCRIBE, hearing=Hearing(token_milliseconds=80, seconds_max=480))
    reply = await stack.http.post(path, data={"model": MODEL, "stream": streamed}, files={"file": wav()})

    assert reply.status_code == 200, reply.text
    assert "word4" not in reply.text
    ending = "sensitive" if "paas" in path else "content_filter"
    assert f'"finish_reason":"{ending}"' in reply.text
    given = GIVEN if streamed == "true" else 0
    assert await the_event(stack) == (Ending.WITHHELD, 7, given)


async def test_bare_text_is_withheld_whole(stack: Stack) -> None:
    stack.offer(task=Task.TRANSCRIBE, hearing=Hearing(token_milliseconds=80, seconds_max=480))
    fields = {"model": MODEL, "response_format": "text"}
    reply = await stack.http.post(TRANSCRIPTIONS[0], data=fields, files={"file": wav()})
    assert (reply.status_code, reply.text) == (200, "")
    assert await the_event(stack) == (Ending.WITHHELD, 7, 0)


@pytest.mark.parametrize("field", ["prompt", "hotwords"])
@pytest.mark.parametrize("path", TRANSCRIPTIONS)
async def test_what_a_model_is_told_to_expect_is_looked_at_too(stack: Stack, path: str, field: str) -> None:
    stack.offer(task=Task.TRANSCRIBE, hearing=Hearing(token_milliseconds=80, seconds_max=480))
    reply = await stack.http.post(path, data={"model": MODEL, field: "xyzzy"}, files={"file": wav()})
    assert (reply.status_code, "content_refused" in reply.text) == (400, True)
    assert stack.engine.attempts == []
