"""What a client sees while something that the gateway leans on is slow or gone, whoever pays and however.

docs/operations/degradation.md has it as a table, whose cells name tests of this file and of others.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
import redis

from headrace_contracts import channels
from headrace_contracts.usage import Disposition, Ending
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import open_account
from tests.gateway.http.stack import SHORT_TIMEOUTS, SLICE_TOKENS, Stack, parsed, running_stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour
from tests.support.valkey import bounded, running_valkey_process

STREAM_TOKENS = 6 * SLICE_TOKENS


@pytest.fixture(params=[Disposition.PREPAID, Disposition.PAYG])
def payer(request: pytest.FixtureRequest) -> Disposition:
    disposition: Disposition = request.param
    return disposition


@pytest.fixture
def valkey() -> Iterator[tuple[str, int]]:
    """One of its own, to be stopped and killed: address and pid."""
    with running_valkey_process() as (server, pid):
        yield server.url, pid


@pytest.fixture
async def stack(
    valkey: tuple[str, int],
    payer: Disposition,
    settings: MeterSettings,
    unused_port: Callable[[], int],
    changes: dict[str, float],
) -> AsyncIterator[Stack]:
    url, _ = valkey
    with redis.Redis.from_url(url) as client:
        account = open_account(client)
        account.push_project(disposition=payer)
        own = replace(settings, valkey_url=url, **changes)  # type: ignore[arg-type]
        async with running_stack(account, own, unused_port(), timeouts=SHORT_TIMEOUTS) as running:
            yield running


@pytest.fixture
def changes() -> dict[str, float]:
    """Of the settings. By these nothing that is only slow is given up."""
    return {}


@pytest.fixture
def valkey_is_soon_given_up(changes: dict[str, float]) -> None:
    changes["valkey_timeout_seconds"] = 0.5


@pytest.fixture
def nothing_is_waited_for(changes: dict[str, float]) -> None:
    changes["stand_still_seconds"] = 0.3
    changes["settle_wait_seconds"] = 0.25


async def first_piece(pieces: AsyncIterator[str]) -> str:
    return await anext(pieces)


async def rest_of(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


async def refusal(stack: Stack) -> tuple[int, str, str | None]:
    reply = await stack.post()
    return reply.status_code, reply.json()["error"]["code"], reply.headers.get("retry-after")


async def test_a_slow_valkey_delays_a_request_by_what_it_takes(stack: Stack) -> None:
    stack.account.client.client_pause(200, all=True)
    assert (await stack.post()).status_code == 200
    [event] = await stack.settled()
    assert event.ending is Ending.COMPLETED


@pytest.mark.usefixtures("valkey_is_soon_given_up")
async def test_a_valkey_that_does_not_answer_refuses_new_requests_until_it_does(
    stack: Stack, valkey: tuple[str, int]
) -> None:
    _, pid = valkey
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await refusal(stack) == (503, "limits_unavailable", "2")
        assert stack.engine.attempts == []
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(30):
        while (await stack.post()).status_code != 200:  # noqa: ASYNC110 - Valkey is another process
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("nothing_is_waited_for")
async def test_a_valkey_that_is_gone_refuses_new_requests_and_streams_end_cleanly(
    stack: Stack, valkey: tuple[str, int], payer: Disposition
) -> None:
    _, pid = valkey
    stack.engine.behave(Behaviour(tokens=STREAM_TOKENS, before_each_seconds=0.01))
    body = {"model": "glm-alias", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with stack.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        pieces = reply.aiter_text()
        text = await first_piece(pieces)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not stack.meter.limiter.valkey.connected)
        assert await refusal(stack) == (503, "limits_unavailable", "2")
        text += await rest_of(pieces)
    *chunks, last = parsed(text)
    assert last == "[DONE]"
    said = [
        chunk for chunk in chunks if isinstance(chunk, dict) and chunk["choices"][0]["delta"].get("content")
    ]
    if payer is Disposition.PAYG:
        assert len(said) == STREAM_TOKENS
    else:
        # It stood still at the end of its slice, and what it would have spent beyond is another's.
        assert SLICE_TOKENS <= len(said) < STREAM_TOKENS
        assert len(said) % SLICE_TOKENS == 0
    # Its event is in the journal; Valkey has to come back for the rest.
    assert stack.meter.journal.last_sequence == 1
    assert stack.meter.settler.outstanding == 1


async def test_an_emptied_valkey_refuses_new_requests_until_it_is_loaded(stack: Stack) -> None:
    stack.account.client.flushall()
    assert await refusal(stack) == (503, "limits_rebuilding", "2")


async def test_a_full_valkey_refuses_new_requests_and_what_runs_goes_on_and_is_settled(stack: Stack) -> None:
    client = stack.account.client
    stack.engine.behave(Behaviour(tokens=STREAM_TOKENS, before_each_seconds=0.01))
    streaming = asyncio.create_task(stack.events_of())
    await eventually(lambda: stack.engine.attempts)
    with bounded(client, 1):
        assert await refusal(stack) == (503, "limits_unavailable", "2")
        assert len(stack.engine.attempts) == 1
        assert (await streaming)[-1] == "[DONE]"
        [event] = await stack.settled()
        assert (event.ending, event.tokens.output) == (Ending.COMPLETED, STREAM_TOKENS)
        assert not client.exists("hr:leases")
    assert (await stack.post()).status_code == 200


async def test_billing_that_is_gone_changes_nothing_until_the_stream_is_nearly_full(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither API nor worker is there in these tests, and so no Postgres behind them.
    monkeypatch.setattr("headrace_gateway.limits.limiter.STREAM_ENTRIES_ADMITTING_MAX", 2)
    for _ in range(2):
        assert (await stack.post()).status_code == 200
    await stack.settled(2)
    assert await refusal(stack) == (503, "overloaded", "5")
    assert stack.meter.journal.acknowledged == 0
    stack.account.client.xtrim(channels.USAGE, 0)
    assert (await stack.post()).status_code == 200


async def test_without_a_worker_a_prepaid_wallet_can_still_not_be_spent_twice(
    stack: Stack, payer: Disposition
) -> None:
    # Nobody posts what is used, so it stays pending.
    stack.account.fund(80)
    stack.engine.default = Behaviour(tokens=5, prompt_tokens=1, cached_tokens=0)
    answers = [(await stack.post(max_tokens=5)).status_code for _ in range(14)]
    balance, held, pending = stack.account.money()
    if payer is Disposition.PAYG:
        assert answers == [200] * 14
        assert pending == 0
    else:
        assert {200, 402} == set(answers)
        assert answers == sorted(answers)
        assert pending <= balance
    assert held == 0


async def test_a_disk_without_room_refuses_new_requests_and_lets_streams_finish(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=STREAM_TOKENS, before_each_seconds=0.01))
    streaming = asyncio.create_task(stack.events_of())
    await eventually(lambda: stack.engine.attempts)
    taken = 0
    while stack.meter.journal.reserve():
        taken += 1
    assert await refusal(stack) == (503, "overloaded", "5")
    assert (await streaming)[-1] == "[DONE]"
    for _ in range(taken):
        stack.meter.journal.give_back()
    assert (await stack.post()).status_code == 200


@pytest.mark.usefixtures("nothing_is_waited_for")
async def test_a_slow_disk_delays_the_end_of_an_answer_by_a_moment_at_most(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = os.fdatasync

    def slowly(descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(synced.wait(), loop).result(20)
        real(descriptor)

    monkeypatch.setattr("headrace_gateway.metering.journal.os.fdatasync", slowly)
    try:
        # It would never come, did it wait for the disk.
        assert (await stack.post()).status_code == 200
    finally:
        synced.set()


async def test_an_engine_that_is_gone_costs_nothing(stack: Stack) -> None:
    stack.engine.behave(Behaviour(reset=True), Behaviour(reset=True))
    status, code, _ = await refusal(stack)
    assert (status, code) == (502, "upstream_failed")
    [event] = await stack.settled()
    assert event.tokens.total == 0


async def test_a_slow_engine_is_waited_for_and_then_costs_nothing(stack: Stack) -> None:
    stack.engine.behave(Behaviour(before_first_seconds=0.2), Behaviour(before_first_seconds=3600))
    assert (await stack.post()).status_code == 200
    status, code, _ = await refusal(stack)
    assert (status, code) == (504, "upstream_timed_out")
    answered, given_up = await stack.settled(2)
    assert answered.tokens.total > 0
    assert given_up.tokens.total == 0
