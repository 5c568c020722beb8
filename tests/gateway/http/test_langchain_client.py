"""LangChain's OpenAI classes, unmodified, against the gateway."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from headrace_contracts.deployments import Task
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.support.upstream import Behaviour

SAY: dict[str, Any] = {"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}


@pytest.fixture
async def connections(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    """Its own would be kept for ever."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


@pytest.fixture
def chat_model(stack: Stack, connections: httpx2.AsyncClient) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL,
        base_url=f"{stack.url}/v1",
        api_key=SecretStr(stack.account.secret),
        http_async_client=connections,
        max_retries=0,
        stream_usage=True,
    )


async def test_it_asks_and_reads_what_was_used(stack: Stack, chat_model: ChatOpenAI) -> None:
    answer = await chat_model.ainvoke("hello")

    assert answer.content == " word1 word2 word3 word4 word5"
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (7, 5)
    assert answer.usage_metadata["input_token_details"]["cache_read"] == 3
    await stack.settled()


async def test_it_streams_and_sums_the_same(stack: Stack, chat_model: ChatOpenAI) -> None:
    chunks = [chunk async for chunk in chat_model.astream("hello")]

    assert "".join(str(chunk.content) for chunk in chunks) == " word1 word2 word3 word4 word5"
    used = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [each["output_tokens"] for each in used] == [5]
    [event] = await stack.settled()
    assert event.tokens.output == 5


async def test_it_calls_a_tool_and_hands_back_what_the_tool_said(
    stack: Stack, chat_model: ChatOpenAI
) -> None:
    stack.engine.behave(Behaviour(tool=True), Behaviour(tokens=2))
    with_tool = chat_model.bind_tools([SAY])
    asked = HumanMessage("hello")

    called = await with_tool.ainvoke([asked])
    assert isinstance(called, AIMessage)
    [call] = called.tool_calls
    answer = await with_tool.ainvoke([asked, called, ToolMessage("done", tool_call_id=call["id"])])

    assert (call["name"], call["args"]) == ("say", {"words": " word2 word3 word4"})
    assert answer.content == " word1 word2"
    assert [each["role"] for each in stack.engine.last.body["messages"]] == ["user", "assistant", "tool"]
    await stack.settled(2)


async def test_it_embeds(stack: Stack, connections: httpx2.AsyncClient) -> None:
    stack.offer(task=Task.EMBED)
    embeddings = OpenAIEmbeddings(
        model=MODEL,
        base_url=f"{stack.url}/v1",
        api_key=SecretStr(stack.account.secret),
        # Else it would fetch another model's tokenizer, and send its tokens.
        check_embedding_ctx_length=False,
        http_async_client=connections,
        max_retries=0,
    )

    assert len(await embeddings.aembed_documents(["hello", "you"])) == 2
    [event] = await stack.settled()
    assert event.tokens.total == 14
