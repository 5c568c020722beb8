"""One wallet and many streams at several gateways: what is held and spent is never more than there is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from headrace_contracts.usage import Ending
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import Stack, running_stacks, text_of
from tests.gateway.routing.crowd import crowd
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
    all_run = asyncio.Event()
    for gateway in gateways:
        gateway.engine.default = Behaviour(tokens=TOKENS, begins=all_run, before_each_seconds=0.01)

    free: list[int] = []
    async with crowd(_watch(account, free)):
        asking = asyncio.gather(*(_stream(gateways[number % 3]) for number in range(STREAMS)))
        await eventually(lambda: sum(len(gateway.meter.running) for gateway in gateways) == STREAMS)
        all_run.set()
        answers = await asking

    assert min(free) >= 0
    await eventually(lambda: account.money()[1] == 0)
    settled = account.events()[1:]
    assert len(settled) == STREAMS
    spent = sum(event.tokens.total for event in settled)
    assert account.money() == (funds + spent_before, 0, spent_before + spent)
    assert funds * 0.9 < spent <= funds
    assert {event.ending for event in settled} <= {Ending.COMPLETED, Ending.BUDGET_STOPPED}
    assert any(event.ending is Ending.BUDGET_STOPPED for event in settled)
    assert sum(event.tokens.output for event in settled) == sum(
        len(text_of(each).split()) for each in answers
    )


async def _held_by_one(gateway: Stack, account: Account) -> int:
    seen = asyncio.Event()
    gateway.engine.behave(Behaviour(begins=seen))
    asking = asyncio.create_task(_stream(gateway))
    await eventually(lambda: len(gateway.meter.running) == 1)
    held = account.money()[1]
    seen.set()
    await asking
    await eventually(lambda: account.money()[1] == 0)
    return held


async def _stream(gateway: Stack) -> list[dict[str, Any] | str]:
    return await gateway.events_of(max_tokens=HUGE)


async def _watch(account: Account, free: list[int]) -> None:
    """Notes what is neither held nor spent, again and again."""
    while True:
        balance, held, pending = account.money()
        free.append(balance - held - pending)
        await asyncio.sleep(0.002)
