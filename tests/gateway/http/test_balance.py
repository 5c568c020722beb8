"""One wallet and many streams at several gateways: what is held and spent is never more than there is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from headrace_contracts.usage import Ending
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import Stack, chat, parsed, running_stacks
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

STREAMS = 256
TOKENS = 60
HUGE = 8192
"""All that the model's context has: a hold of that much would let a few run."""


@pytest.fixture
async def gateways(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[list[Stack]]:
    roomy = replace(settings, inflight_slots=STREAMS, segment_bytes=2 * 2**20, journal_bytes_max=4 * 2**20)
    names = ("first", "second", "third")
    async with running_stacks(names, account, roomy, unused_port, connections_max=STREAMS) as running:
        yield running


async def test_256_streams_at_three_gateways_end_with_the_money_and_never_below_it(
    gateways: list[Stack], account: Account
) -> None:
    first_hold = await _held_by_one(gateways[0], account)
    assert first_hold < 100, "a huge `max_tokens` pins a slice and no more"
    funds = STREAMS * first_hold
    spent_before = account.money()[2]
    account.fund(funds + spent_before)
    for gateway in gateways:
        gateway.engine.default = Behaviour(tokens=TOKENS, before_first_seconds=2.0, before_each_seconds=0.01)

    async with _watched(account) as least:
        asking = asyncio.gather(*(_stream(gateways[number % 3]) for number in range(STREAMS)))
        await eventually(lambda: sum(len(gateway.meter.running) for gateway in gateways) == STREAMS)
        texts = await asking

    assert min(least) >= 0
    await eventually(lambda: account.money()[1] == 0)
    settled = account.events()[1:]
    assert len(settled) == STREAMS
    spent = sum(event.tokens.total for event in settled)
    assert account.money() == (funds + spent_before, 0, spent_before + spent)
    assert funds * 0.9 < spent <= funds
    assert {event.ending for event in settled} <= {Ending.COMPLETED, Ending.BUDGET_STOPPED}
    assert any(event.ending is Ending.BUDGET_STOPPED for event in settled)
    assert sum(event.tokens.output for event in settled) == sum(_words(text) for text in texts)


async def _held_by_one(gateway: Stack, account: Account) -> int:
    gateway.engine.behave(Behaviour(before_first_seconds=0.5))
    asking = asyncio.create_task(_stream(gateway))
    await eventually(lambda: len(gateway.meter.running) == 1)
    held = account.money()[1]
    await asking
    await eventually(lambda: account.money()[1] == 0)
    return held


async def _stream(gateway: Stack) -> str:
    reply = await gateway.http.post("/v1/chat/completions", json=chat(stream=True, max_tokens=HUGE))
    assert reply.status_code == 200, reply.text
    return reply.text


@contextlib.asynccontextmanager
async def _watched(account: Account) -> AsyncIterator[list[int]]:
    """What was neither held nor spent, again and again."""
    free: list[int] = []

    async def watch() -> None:
        while True:
            balance, held, pending = account.money()
            free.append(balance - held - pending)
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    try:
        yield free
    finally:
        watching.cancel()


def _words(text: str) -> int:
    events = [event for event in parsed(text) if isinstance(event, dict)]
    contents = [choice["delta"].get("content") for event in events for choice in event["choices"]]
    return sum(bool(content) for content in contents)
