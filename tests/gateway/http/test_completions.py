"""The whole way of a request that goes well."""

import pytest

from headrace_contracts.usage import Dialect, Ending, Grade, TokenCounts
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack, chat
from tests.support.upstream import Behaviour


async def test_a_plain_chat_is_answered_and_accounted_for(stack: Stack) -> None:
    reply = await stack.post(max_tokens=50)

    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["model"] == MODEL
    assert body["choices"][0]["message"]["content"] == " word1 word2 word3 word4 word5"
    [event] = await stack.settled()
    assert event.id == reply.headers["x-request-id"]
    assert reply.headers["x-headrace-revision"] == "r1"
    assert event.id in body["id"]
    assert (event.grade, event.ending, event.dialect) == (Grade.FINAL, Ending.COMPLETED, Dialect.OPENAI_CHAT)
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=5)
    assert stack.engine.last.id == f"{event.id}.1"
    assert stack.engine.last.body == chat(max_tokens=50, model="engine-name")


async def test_a_stream_is_relayed_event_by_event(stack: Stack) -> None:
    *chunks, last = await stack.events_of()

    assert last == "[DONE]"
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks if isinstance(chunk, dict))
    text = "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if isinstance(chunk, dict)
    )
    assert text == " word1 word2 word3 word4 word5"
    [event] = await stack.settled()
    assert event.ending is Ending.COMPLETED
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=5)
    assert event.first_token_at_us is not None


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_prompt_alone_is_echoed_and_held_for_the_token_that_the_engine_makes(
    stack: Stack, streamed: bool
) -> None:
    stack.engine.behave(Behaviour(tokens=1))
    asks = {"model": MODEL, "prompt": "hello", "echo": True, "max_tokens": 0, "logprobs": 1}
    reply = await stack.http.post("/v1/completions", json=asks | {"stream": streamed})

    assert reply.status_code == 200, reply.text
    assert (stack.engine.last.body["max_tokens"], stack.engine.last.body["echo"]) == (0, True)
    [event] = await stack.settled()
    assert event.ending is Ending.COMPLETED
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=1)


async def test_nothing_without_an_echo_is_no_request(stack: Stack) -> None:
    for asks in ({}, {"echo": False}):
        body = {"model": MODEL, "prompt": "hello", "max_tokens": 0} | asks
        reply = await stack.http.post("/v1/completions", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "max_tokens")
