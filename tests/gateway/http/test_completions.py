"""The whole way of a request that goes well."""

from headrace_contracts.usage import Dialect, Ending, Grade, TokenCounts
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack, chat


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
