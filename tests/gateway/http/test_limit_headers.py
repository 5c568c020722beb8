"""Every answer says how the limits of its key stand: a plain one, a stream, a refusal, in its dialect's headers."""

from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest

from headrace_contracts.access import Limit, LimitKind
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack, chat
from tests.support.upstream import Behaviour

RATES = [
    Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=3),
    Limit(kind=LimitKind.TOKENS_PER_MINUTE, ceiling=60_000),
]
MESSAGE: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "hello"}],
}


def told(reply: httpx.Response, prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in reply.headers.items() if prefix in name}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_says_what_is_left_after_it(stack: Stack, stream: bool) -> None:
    stack.account.push_key(limits=RATES)
    reply = await stack.post(stream=stream)
    headers = told(reply, "x-ratelimit-")
    assert (headers["limit-requests"], headers["remaining-requests"]) == ("3", "2")
    assert headers["reset-requests"] == "20s"  # at three a minute one is back after a third of it
    assert headers["limit-tokens"] == "60000"
    assert 59_000 < int(headers["remaining-tokens"]) < 60_000
    assert headers["reset-tokens"].endswith("ms")
    assert told(await stack.post(), "x-ratelimit-")["remaining-requests"] == "1"
    await stack.settled(2)


async def test_without_rates_nothing_is_told(stack: Stack) -> None:
    assert told(await stack.post(), "ratelimit") == {}
    await stack.settled()


async def test_an_engines_failure_tells_them_too(stack: Stack) -> None:
    stack.account.push_key(limits=RATES)
    stack.engine.behave(Behaviour(status=400))
    reply = await stack.post()
    assert reply.status_code == 400
    assert told(reply, "x-ratelimit-")["remaining-requests"] == "2"
    await stack.settled()


async def test_a_refusal_names_the_limit_what_is_used_of_it_and_when_it_is_back(stack: Stack) -> None:
    stack.account.push_key(limits=RATES)
    for _ in range(3):
        await stack.post()
    with pytest.raises(openai.RateLimitError) as refused:
        await stack.openai.chat.completions.create(**chat())
    error: Any = refused.value.body
    assert (error["limit"], error["scope"]) == ("requests_per_minute", "key key_1")
    assert (error["used"], error["ceiling"], error["weight"]) == (3, 3, 1)
    assert 0 < error["retry_after_seconds"] <= 20 < error["resets_in_seconds"] <= 60
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 20
    assert (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-limit-tokens"]) == ("0", "60000")
    await stack.settled(3)


async def test_who_cannot_pay_is_told_of_the_rates_as_well(stack: Stack) -> None:
    stack.account.push_key(limits=RATES)
    stack.account.fund(1)
    reply = await stack.post()
    assert reply.status_code == 402
    assert told(reply, "x-ratelimit-")["remaining-requests"] == "3"
    assert reply.json()["error"]["resets_in_seconds"] is None  # no waiting fills a wallet


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_s_clients_get_their_own_names_and_moments(stack: Stack, stream: bool) -> None:
    stack.account.push_key(
        limits=[
            *RATES,
            Limit(kind=LimitKind.INPUT_TOKENS_PER_MINUTE, ceiling=30_000),
            Limit(kind=LimitKind.OUTPUT_TOKENS_PER_MINUTE, ceiling=6_000),
        ]
    )
    asked = datetime.now(UTC)
    reply = await stack.post("/v1/messages", **MESSAGE, stream=stream)
    assert reply.status_code == 200, reply.text
    headers = told(reply, "anthropic-ratelimit-")
    assert {
        unit: headers[f"{unit}-limit"] for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    } == {
        "requests": "3",
        "tokens": "6000",  # the tightest of all that count tokens
        "input-tokens": "30000",
        "output-tokens": "6000",
    }
    resets = datetime.fromisoformat(headers["requests-reset"])
    assert 19 <= (resets - asked).total_seconds() <= 30
    assert told(reply, "x-ratelimit-") == {}
    await stack.settled()


async def test_anthropic_s_clients_are_refused_with_their_own_names(stack: Stack) -> None:
    stack.account.push_key(limits=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=0)])
    async with anthropic.AsyncAnthropic(
        base_url=stack.url, api_key=stack.account.secret, max_retries=0
    ) as client:
        with pytest.raises(anthropic.RateLimitError) as refused:
            await client.messages.create(**MESSAGE)
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    error: Any = refused.value.body
    assert error["error"]["limit"] == "requests_per_minute"
