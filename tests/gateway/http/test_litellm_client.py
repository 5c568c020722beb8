"""LiteLLM, unmodified, against the gateway: as OpenAI's protocol, as Anthropic's and as the responses API."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import openai
import pytest

from headrace_contracts.access import Limit, LimitKind
from headrace_contracts.deployments import Task
from headrace_contracts.usage import Dialect, Ending
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

# It builds models of everybody's protocols as it goes, and pydantic has something to say about many of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Items? :UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

Answer = TypeVar("Answer")

HELLO = [{"role": "user", "content": "hello"}]
SAY = [{"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}]


class Lite:
    """Its calls block, and each works in a thread; connections that it made by itself would never be closed."""

    def __init__(self, stack: Stack, litellm: Any) -> None:
        self.litellm = litellm
        self._stack = stack

    async def openai(self, ask: Callable[..., Answer], **changes: Any) -> Answer:
        secret = changes.pop("api_key", self._stack.account.secret)
        url = f"{self._stack.url}/v1"

        def work() -> Answer:
            with openai.OpenAI(base_url=url, api_key=secret, max_retries=0, timeout=20) as client:
                asked = {"model": f"openai/{MODEL}", "api_base": url, "api_key": secret, "client": client}
                # It would wait as it is told, and ask again.
                return ask(**(asked | {"max_retries": 0} | changes))

        return await asyncio.to_thread(work)

    async def anthropic(self, ask: Callable[..., Answer], **changes: Any) -> Answer:
        def work() -> Answer:
            client = self.litellm.llms.custom_httpx.http_handler.HTTPHandler(timeout=20)
            try:
                return ask(
                    model=f"anthropic/{MODEL}",
                    api_base=self._stack.url,
                    api_key=self._stack.account.secret,
                    max_tokens=50,
                    client=client,
                    **changes,
                )
            finally:
                client.close()

        return await asyncio.to_thread(work)


@pytest.fixture
def lite(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Lite:
    # Else it fetches its list of prices as it is imported.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # noqa: PLC0415 - it takes seconds, which only these tests need wait for

    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    return Lite(stack, litellm)


def whole(litellm: Any, chunks: Iterator[Any]) -> Any:
    return litellm.stream_chunk_builder(list(chunks), messages=HELLO)


async def test_it_asks_and_reads_what_was_used(stack: Stack, lite: Lite) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2))

    answer = await lite.openai(lite.litellm.completion, messages=HELLO)

    message = answer.choices[0].message
    assert (message.reasoning_content, message.content) == (" word1 word2", " word3 word4 word5")
    [event] = await stack.settled()
    assert event.dialect is Dialect.OPENAI_CHAT
    assert answer.usage.prompt_tokens == event.tokens.input_uncached + event.tokens.cache_read == 7
    assert answer.usage.prompt_tokens_details.cached_tokens == event.tokens.cache_read == 3
    assert answer.usage.completion_tokens == event.tokens.output == 5


async def test_it_streams_and_counts_the_same(stack: Stack, lite: Lite) -> None:
    def ask(**asked: Any) -> list[Any]:
        options = {"include_usage": True}
        return list(lite.litellm.completion(messages=HELLO, stream=True, stream_options=options, **asked))

    chunks = await lite.openai(ask)

    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == " word1 word2 word3 word4 word5"
    [event] = await stack.settled()
    used = chunks[-1].usage
    assert (used.prompt_tokens, used.completion_tokens) == (7, event.tokens.output) == (7, 5)
    assert used.prompt_tokens_details.cached_tokens == event.tokens.cache_read == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_calls_a_tool_and_hands_back_what_the_tool_said(
    stack: Stack, lite: Lite, streamed: bool
) -> None:
    stack.engine.behave(Behaviour(tool=True, tokens=8), Behaviour(tokens=2))

    def ask(**asked: Any) -> Any:
        reply = lite.litellm.completion(tools=SAY, stream=streamed, **asked)
        return whole(lite.litellm, reply) if streamed else reply

    called = (await lite.openai(ask, messages=HELLO)).choices[0].message
    [call] = called.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    answer = await lite.openai(ask, messages=[*HELLO, called.model_dump(exclude_none=True), result])

    assert call.function.name == "say"
    assert call.function.arguments.startswith('{"words":" word2 word3')
    assert answer.choices[0].message.content == " word1 word2"
    assert [each["role"] for each in stack.engine.last.body["messages"]] == ["user", "assistant", "tool"]
    events = await stack.settled(2)
    assert [event.tokens.output for event in events] == [8, 2]


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_speaks_anthropic_s_protocol_too(stack: Stack, lite: Lite, streamed: bool) -> None:
    stack.engine.behave(Behaviour(thinking_tokens=2, tokens=9, tool=True))

    def ask(**asked: Any) -> Any:
        reply = lite.litellm.completion(messages=HELLO, tools=SAY, stream=streamed, **asked)
        return whole(lite.litellm, reply) if streamed else reply

    answer = await lite.anthropic(ask)

    message = answer.choices[0].message
    assert message.reasoning_content == " word1 word2"
    assert message.tool_calls[0].function.name == "say"
    assert answer.choices[0].finish_reason == "tool_calls"
    [event] = await stack.settled()
    assert event.dialect is Dialect.ANTHROPIC_MESSAGES
    # What it calls a prompt has the cached part inside.
    assert answer.usage.prompt_tokens == event.tokens.input_uncached + event.tokens.cache_read == 7
    assert answer.usage.prompt_tokens_details.cached_tokens == event.tokens.cache_read == 3
    assert answer.usage.completion_tokens == event.tokens.output == 9


async def test_it_asks_for_a_response(stack: Stack, lite: Lite) -> None:
    answer = await lite.openai(lite.litellm.responses, input="hello", client=None)

    assert answer.output[0].content[0].text == " word1 word2 word3 word4 word5"
    [event] = await stack.settled()
    assert event.dialect is Dialect.OPENAI_RESPONSES
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, event.tokens.output) == (7, 5)


async def test_it_embeds(stack: Stack, lite: Lite) -> None:
    stack.offer(task=Task.EMBED)

    answer = await lite.openai(lite.litellm.embedding, input=["hello", "you"])

    assert len(answer.data) == 2
    [event] = await stack.settled()
    assert answer.usage.prompt_tokens == event.tokens.total == 14


async def test_a_caller_that_hangs_up_pays_the_last_count_it_was_given(stack: Stack, lite: Lite) -> None:
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.01))

    def some(**asked: Any) -> int:
        stream = lite.litellm.completion(messages=HELLO, stream=True, **asked)
        words = 0
        for chunk in stream:
            words += bool(chunk.choices[0].delta.content)
            if words == 4:
                break
        return words  # and the connections are closed

    words = await lite.openai(some)

    [event] = await stack.settled()
    assert event.ending is Ending.CLIENT_GONE
    await eventually(lambda: stack.engine.last.ending == "aborted")
    assert words <= event.tokens.output <= stack.engine.last.yielded < 60


async def refused(lite: Lite, error: type[Exception], **changes: Any) -> Any:
    with pytest.raises(error) as refusal:
        await lite.openai(lite.litellm.completion, messages=HELLO, **changes)
    return refusal.value


async def test_refusals_are_of_the_client_s_own_classes(stack: Stack, lite: Lite) -> None:
    errors = lite.litellm.exceptions

    unknown = await refused(lite, errors.AuthenticationError, api_key="hr-" + "b" * 43)
    assert unknown.status_code == 401
    assert (await refused(lite, errors.NotFoundError, model="openai/gpt-4")).status_code == 404
    assert (await refused(lite, errors.BadRequestError, n=1000)).status_code == 400
    # For a 403 and a 402 of this protocol it has no class of its own; what matters is that it does not try again.
    stack.account.push_key(models=["another"])
    assert (await refused(lite, errors.APIError)).status_code == 403
    stack.account.push_key()
    stack.account.fund(3)
    broke = await refused(lite, errors.APIError)
    assert broke.status_code == 402
    assert "wallet" in str(broke)
    with pytest.raises(errors.PaymentRequiredError):
        await lite.anthropic(lite.litellm.completion, messages=HELLO)
    assert stack.account.events() == []
    assert stack.engine.attempts == []


async def test_a_rate_limit_says_when_to_come_back(stack: Stack, lite: Lite) -> None:
    stack.account.push_key(limits=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=1)])
    await lite.openai(lite.litellm.completion, messages=HELLO)

    limited = await refused(lite, lite.litellm.exceptions.RateLimitError)

    assert limited.status_code == 429
    assert int(limited.litellm_response_headers["retry-after"]) >= 1
    await stack.settled(1)
