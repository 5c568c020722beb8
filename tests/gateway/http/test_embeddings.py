"""Embeddings: relayed as they came, held and metered like anything else."""

from typing import Any

import openai
import pytest

from headrace_contracts.deployments import Task
from headrace_contracts.usage import Dialect, Ending, TokenCounts
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.support.upstream import Behaviour


@pytest.fixture
def embedder(stack: Stack) -> Stack:
    stack.offer(task=Task.EMBED, context_tokens=8, prompt_overhead_tokens=1)
    return stack


@pytest.mark.parametrize(
    ("given", "inputs"), [("hello", 1), (["hello", "you"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)]
)
async def test_text_and_tokens_one_and_many(embedder: Stack, given: Any, inputs: int) -> None:
    reply = await embedder.openai.embeddings.create(model=MODEL, input=given)

    assert [each.embedding for each in reply.data] == [[1.0, 2.0]] * inputs
    assert (reply.model, reply.usage.prompt_tokens) == (MODEL, 7 * inputs)
    [event] = await embedder.settled()
    assert (event.dialect, event.ending) == (Dialect.OPENAI_EMBEDDINGS, Ending.COMPLETED)
    assert event.tokens == TokenCounts(input_uncached=7 * inputs)


async def test_what_the_client_asks_for_beside_reaches_the_engine_and_nothing_else(embedder: Stack) -> None:
    fields = {"input": ["hello"], "encoding_format": "float", "dimensions": 2, "user": "someone"}
    hidden = {"priority": -1, "messages": [{"role": "user", "content": "hello"}], "stream": True}

    reply = await embedder.post("/v1/embeddings", model="glm-alias", **fields, **hidden)

    assert reply.status_code == 200, reply.text
    assert embedder.engine.last.path == "/v1/embeddings"
    assert embedder.engine.last.body == {"model": "engine-name", **fields}
    await embedder.settled()


async def test_the_hold_covers_every_input_to_the_token_and_no_output(embedder: Stack) -> None:
    # Two inputs of at most eight tokens each, of which the engine counts seven.
    embedder.account.fund(15)
    with pytest.raises(openai.APIStatusError) as refused:
        await embedder.openai.embeddings.create(model=MODEL, input=["hello, you", "hello, me"])
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_balance")

    embedder.account.fund(16)
    await embedder.openai.embeddings.create(model=MODEL, input=["hello, you", "hello, me"])
    [event] = await embedder.settled()
    assert event.tokens.total == 14


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "empty"),
        (["hello", 1], "not both"),
        ([1, "hello"], "not both"),
        (["a"] * 2049, "at most 2048"),
        ({"text": "hello"}, "must be"),
        (None, "missing"),
    ],
)
async def test_what_can_t_be_embedded(embedder: Stack, given: Any, says: str) -> None:
    reply = await embedder.post("/v1/embeddings", model=MODEL, input=given)

    assert reply.status_code == 400
    assert (reply.json()["error"]["param"], says in reply.json()["error"]["message"]) == ("input", True)
    assert embedder.engine.attempts == []


async def test_a_model_is_asked_only_for_what_it_is_for(stack: Stack) -> None:
    reply = await stack.post("/v1/embeddings", model=MODEL, input="hello")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_offered")

    stack.offer(task=Task.EMBED)
    for path in ("/v1/chat/completions", "/v1/messages/count_tokens"):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        reply = await stack.http.post(path, json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_offered")
        assert "/v1/embeddings" in reply.json()["error"]["message"]
    assert stack.engine.attempts == []
    assert stack.account.events() == []


async def test_an_engine_that_answers_with_something_else_is_not_paid(embedder: Stack) -> None:
    embedder.engine.behave(Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    with pytest.raises(openai.InternalServerError):
        await embedder.openai.embeddings.create(model=MODEL, input="hello")
    [event] = await embedder.settled()
    assert (event.ending, event.tokens.total) == (Ending.UPSTREAM_FAILED, 0)
