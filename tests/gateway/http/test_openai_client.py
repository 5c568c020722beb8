"""OpenAI's own client, unmodified, against the gateway."""

import asyncio

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from headrace_contracts.access import KeyStatus, Limit, LimitKind
from headrace_contracts.usage import Dialect, Ending
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


async def test_chat(stack: Stack) -> None:
    completion = await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)

    assert completion.choices[0].message.content == " word1 word2 word3 word4 word5"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 5)
    await stack.settled()


async def test_chat_as_a_stream_with_usage_at_its_end(stack: Stack) -> None:
    stream = await stack.openai.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert {chunk.model for chunk in chunks} == {MODEL}
    await stack.settled()


async def test_a_stream_without_usage_has_no_chunk_with_empty_choices(stack: Stack) -> None:
    stream = await stack.openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]

    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    await stack.settled()


async def test_completions(stack: Stack) -> None:
    completion = await stack.openai.completions.create(model=MODEL, prompt="hello", max_tokens=3)

    assert completion.choices[0].text == " word1 word2 word3"
    [event] = await stack.settled()
    assert (event.dialect, event.tokens.output) == (Dialect.OPENAI_COMPLETIONS, 3)


async def test_completions_as_a_stream(stack: Stack) -> None:
    stream = await stack.openai.completions.create(model="glm-alias", prompt="hello", stream=True)
    text = "".join([chunk.choices[0].text async for chunk in stream])

    assert text == " word1 word2 word3 word4 word5"
    [event] = await stack.settled()
    assert (event.model_requested, event.model_served) == ("glm-alias", MODEL)


async def test_several_choices_are_summed(stack: Stack) -> None:
    stream = await stack.openai.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, n=3, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1, 2}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 15
    [event] = await stack.settled()
    assert event.tokens.output == 15


async def test_models_are_listed_and_shown(stack: Stack) -> None:
    models = await stack.openai.models.list()
    assert [model.id for model in models.data] == [MODEL]
    assert (await stack.openai.models.retrieve(MODEL)).owned_by == "zai-org"
    assert (await stack.openai.models.retrieve("glm-alias")).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await stack.openai.models.retrieve("gpt-4")


async def test_models_that_the_key_may_not_name_are_not_listed(stack: Stack) -> None:
    stack.account.push_key(models=["another"])

    assert (await stack.openai.models.list()).data == []
    with pytest.raises(openai.NotFoundError):
        await stack.openai.models.retrieve(MODEL)


async def test_an_unknown_key_is_an_authentication_error(stack: Stack) -> None:
    client = stack.openai.with_options(api_key="hr-" + "b" * 43)

    with pytest.raises(openai.AuthenticationError) as refusal:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert refusal.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        await client.models.list()


async def test_a_revoked_key_is_refused_from_the_next_request_on(stack: Stack) -> None:
    await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
    stack.account.push_key(status=KeyStatus.REVOKED)

    with pytest.raises(openai.AuthenticationError) as refusal:
        await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
    assert refusal.value.code == "api_key_revoked"
    await stack.settled(1)


async def test_an_unknown_model_is_not_found(stack: Stack) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        await stack.openai.chat.completions.create(model="gpt-4", messages=HELLO)
    assert refusal.value.code == "model_not_found"


async def test_an_empty_wallet_is_said_with_its_numbers(stack: Stack) -> None:
    stack.account.fund(3)

    with pytest.raises(openai.APIStatusError) as refusal:
        await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
    assert (refusal.value.status_code, refusal.value.code) == (402, "insufficient_balance")
    assert isinstance(refusal.value.body, dict)
    assert refusal.value.body["limit"] == "wallet"
    assert refusal.value.body["ceiling"] == 3
    assert refusal.value.body["weight"] > 3


async def test_a_rate_limit_says_when_to_come_back(stack: Stack) -> None:
    stack.account.push_key(limits=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=1)])
    await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)

    with pytest.raises(openai.RateLimitError) as refusal:
        await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
    assert refusal.value.code == "rate_limited"
    assert int(refusal.value.response.headers["retry-after"]) >= 1
    assert isinstance(refusal.value.body, dict)
    assert refusal.value.body["retry_after_seconds"] > 0


async def test_an_engine_that_refuses_the_request_is_quoted(stack: Stack) -> None:
    stack.engine.behave(Behaviour(status=400, error="This model's maximum context length is 8192 tokens."))

    with pytest.raises(openai.BadRequestError) as refusal:
        await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
    assert refusal.value.code == "context_length_exceeded"
    [event] = await stack.settled()
    assert (event.ending, event.tokens.total) == (Ending.UPSTREAM_FAILED, 0)


async def test_a_stream_that_breaks_off_raises_in_the_client(stack: Stack) -> None:
    stack.engine.behave(Behaviour(break_after=2))
    stream = await stack.openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True)

    with pytest.raises(openai.APIError) as failure:
        [chunk async for chunk in stream]
    assert failure.value.code == "upstream_failed"
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.UPSTREAM_FAILED, 2)


async def test_eight_at_once(stack: Stack) -> None:
    async def one(number: int) -> str | None:
        if number % 2:
            completion = await stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
            return completion.choices[0].message.content
        stream = await stack.openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    answers = await asyncio.gather(*map(one, range(8)))

    assert set(answers) == {" word1 word2 word3 word4 word5"}
    events = await stack.settled(8)
    assert sum(event.tokens.total for event in events) == 8 * 12
    assert sorted(event.sequence for event in events) == list(range(1, 9))


async def test_a_completion_that_is_hung_up_on_is_paid_to_the_last_count_that_was_given(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.01))
    stream = await stack.openai.completions.create(model=MODEL, prompt="hello", max_tokens=500, stream=True)
    words = 0
    async for chunk in stream:
        words += bool(chunk.choices[0].text)
        if words == 4:
            break
    await stream.close()

    [event] = await stack.settled()
    assert event.ending is Ending.CLIENT_GONE
    await eventually(lambda: stack.engine.last.ending == "aborted")
    assert words <= event.tokens.output <= stack.engine.last.yielded < 60
