"""A request that is repeated with its Idempotency-Key is answered again, and never generated or charged again."""

import asyncio
from typing import Any

import httpx2 as httpx
import pytest
import redis

from headrace_contracts.access import KeyStatus
from headrace_contracts.usage import Ending
from headrace_gateway.http import repeats
from headrace_gateway.limits import keys
from headrace_gateway.limits.idempotency import ANSWER_BOUNDS, KEPT_SECONDS
from tests.gateway.account import MODEL, Account, another_account
from tests.gateway.http.stack import Stack, chat
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

KEY = {"idempotency-key": "order 4711"}
CHAT = "/v1/chat/completions"
MESSAGE: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "hello"}],
}


async def ask(http: httpx.AsyncClient, path: str = CHAT, **body: Any) -> httpx.Response:
    return await http.post(path, json=body or chat(), headers=KEY)


def error_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_the_answer_is_given_again_byte_for_byte(stack: Stack, path: str, stream: bool) -> None:
    body = MESSAGE | {"stream": stream}
    first = await ask(stack.http, path, **body)
    again = await ask(stack.http, path, **body)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content != b""
    for name in ("content-type", "x-request-id", "x-headrace-revision"):
        assert first.headers[name] == again.headers[name]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(stack.engine.attempts) == 1
    await stack.settled(1)


async def test_while_the_first_runs_a_repeat_is_told_to_come_back(stack: Stack) -> None:
    release = asyncio.Event()
    stack.engine.behave(Behaviour(begins=release))
    first = asyncio.create_task(ask(stack.http))
    await eventually(lambda: stack.engine.attempts)
    repeat = await ask(stack.http)
    assert error_of(repeat) == (409, "idempotency_in_progress")
    assert repeat.headers["retry-after"] == "1"
    assert (await ask(stack.http)).content == repeat.content
    release.set()
    done = await first
    assert (await ask(stack.http)).content == done.content
    assert len(stack.engine.attempts) == 1
    await stack.settled(1)


async def test_another_request_with_the_same_key_is_a_mistake(stack: Stack) -> None:
    both = chat(prompt="hello")  # a body that either path takes
    await ask(stack.http, **both)
    assert error_of(await ask(stack.http, **both | {"max_tokens": 7})) == (422, "idempotency_key_reused")
    assert error_of(await ask(stack.http, "/v1/completions", **both)) == (422, "idempotency_key_reused")
    assert len(stack.engine.attempts) == 1
    await stack.settled(1)


async def test_a_key_is_its_project_s_alone(stack: Stack, client: redis.Redis) -> None:
    async with stack.as_(another_account(client)) as stranger:
        await ask(stack.http)
        theirs = await ask(stranger)
    assert "idempotent-replayed" not in theirs.headers
    assert len(stack.engine.attempts) == 2
    await stack.settled(2)


async def test_what_failed_and_cost_nothing_may_be_tried_again(stack: Stack) -> None:
    stack.engine.behave(Behaviour(status=500))
    assert (await ask(stack.http)).status_code == 502
    done = await ask(stack.http)
    assert done.status_code == 200
    assert (await ask(stack.http)).content == done.content
    assert [event.tokens.output for event in await stack.settled(2)] == [0, 5]


async def test_a_refused_request_leaves_its_key_free(stack: Stack, client: redis.Redis) -> None:
    stack.account.fund(1)
    assert (await ask(stack.http)).status_code == 402
    assert client.keys("hr:idempotent*") == []
    stack.account.fund(1_000_000)
    assert (await ask(stack.http)).status_code == 200
    await stack.settled(1)


async def test_a_stream_that_its_client_left_is_not_generated_again(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.01))
    body = chat(stream=True)
    async with stack.http.stream("POST", CHAT, json=body, headers=KEY) as reply:
        pieces = reply.aiter_text()
        for _ in range(4):
            await anext(pieces)
    [event] = await stack.settled(1)
    assert event.ending is Ending.CLIENT_GONE
    again = await ask(stack.http, **body)
    assert error_of(again) == (410, "idempotency_answer_not_kept")
    error = again.json()["error"]
    assert (error["request_id"], error["ending"]) == (event.id, "client_gone")
    assert error["output_tokens"] == event.tokens.output > 0
    assert len(stack.engine.attempts) == 1
    await stack.settled(1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("bound", ["an answer's", "its organisation's", "all answers'"])
async def test_an_answer_that_is_too_long_to_keep_is_still_not_generated_again(
    stack: Stack, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, bound: str, stream: bool
) -> None:
    if bound == "an answer's":
        monkeypatch.setattr(repeats, "ANSWER_BYTES_MAX", 100)
    elif bound == "its organisation's":
        client.set(keys.idempotent_bytes("org_1"), ANSWER_BOUNDS.org_bytes_max - 100)
    else:
        client.set(keys.idempotent_bytes_of_all(KEPT_SECONDS), ANSWER_BOUNDS.all_bytes_max - 100)
    body = chat(stream=stream)
    assert (await ask(stack.http, **body)).status_code == 200
    again = await ask(stack.http, **body)
    assert error_of(again) == (410, "idempotency_answer_not_kept")
    assert (again.json()["error"]["ending"], again.json()["error"]["output_tokens"]) == ("completed", 5)
    await stack.settled(1)


async def test_what_others_keep_takes_no_one_s_own_room(stack: Stack, client: redis.Redis) -> None:
    client.set(keys.idempotent_bytes("org_2"), ANSWER_BOUNDS.org_bytes_max)
    first = await ask(stack.http)
    assert (await ask(stack.http)).content == first.content
    of_all = keys.idempotent_bytes_of_all(KEPT_SECONDS)
    counted: Any = client.mget(keys.idempotent_bytes("org_1"), of_all)
    assert int(counted[0]) == int(counted[1]) >= len(first.content)
    life: Any = client.ttl(of_all)
    assert life > KEPT_SECONDS - 60
    await stack.settled(1)


async def test_a_revoked_key_gets_no_answer_again(stack: Stack) -> None:
    await ask(stack.http)
    stack.account.push_key(status=KeyStatus.REVOKED)
    assert error_of(await ask(stack.http)) == (401, "api_key_revoked")
    await stack.settled(1)


@pytest.mark.parametrize("value", ["", "x" * 256, "snow\N{SNOWMAN}"])
async def test_a_key_is_short_and_plain(stack: Stack, value: str) -> None:
    headers = [(b"Idempotency-Key", value.encode())]
    reply = await stack.http.post(CHAT, json=chat(), headers=headers)
    assert error_of(reply) == (400, "invalid_request")
    assert stack.engine.attempts == []


async def test_without_the_header_nothing_is_kept(stack: Stack, client: redis.Redis) -> None:
    await stack.post()
    assert client.keys("hr:idempotent*") == []
    await stack.settled(1)


async def test_nothing_is_kept_for_good(stack: Stack, client: redis.Redis) -> None:
    await ask(stack.http)
    kept: Any = client.keys("hr:idempotent*")
    assert len(kept) == 3
    for name in kept:
        ttl: Any = client.ttl(name)
        assert 0 < ttl <= KEPT_SECONDS
        assert b"4711" not in name
    await stack.settled(1)


async def test_of_many_at_once_at_two_gateways_one_is_generated(
    gateways: list[Stack], account: Account
) -> None:
    for gateway in gateways:
        gateway.engine.default = Behaviour(before_first_seconds=0.05)
    asked = [ask(gateway.http) for gateway in gateways for _ in range(8)]
    replies = await asyncio.gather(*asked)
    answered = {reply.content for reply in replies if reply.status_code == 200}
    assert {reply.status_code for reply in replies} <= {200, 409}
    assert len(answered) == 1
    assert sum(len(gateway.engine.attempts) for gateway in gateways) == 1
    for gateway in gateways:
        assert {(await ask(gateway.http)).content} == answered
    assert len(account.events()) == 1
