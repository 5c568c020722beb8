"""Slots of a deployment that everybody wants, asked for at three gateways on one Valkey."""

import asyncio
from collections import Counter

import redis

from headrace_contracts.access import Priority
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.routing.crowd import Engine, Gateway, crowd, customer, gateways, slotted
from tests.gateway.waiting import eventually

SLOTS = 3
PAUSE_SECONDS = 0.3
"""Longer than a busy machine makes anybody wait."""
DEPLOYMENT = slotted(SLOTS)


async def served_while_all_wait(
    engine: Engine, others: dict[str, tuple[Gateway, Account]], *, requests: int, each: int = 2 * SLOTS
) -> Counter[str]:
    """What everybody got of the next so many requests, when these ask for more than their share beside who asks already."""
    few = [
        gateway.keep_asking(account, DEPLOYMENT, engine)
        for gateway, account in others.values()
        for _ in range(each)
    ]
    pauses: list[float] = []
    async with crowd(*few, note_pauses(next(iter(others.values()))[0], pauses)):
        await eventually(lambda: all(engine.served[account.id] > 3 for _, account in others.values()))
        while True:
            pauses.clear()
            engine.slot_seconds.clear()
            served = await next_served(engine, requests)
            assert engine.most <= SLOTS
            if not pauses:
                return served
            # Whoever held the slots meanwhile was charged for it, and comes behind the others until they had as much.
            await asyncio.sleep(2 * sum(pauses))


async def next_served(engine: Engine, requests: int) -> Counter[str]:
    before = engine.served.copy()
    await eventually(lambda: engine.served.total() - before.total() >= requests, seconds=60)
    return engine.served - before


async def note_pauses(gateway: Gateway, pauses: list[float]) -> None:
    """Notes when this process or Valkey stood still, and for how long."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await asyncio.sleep(0.01)
        await gateway.meter.limiter.valkey.call("PING")
        if (took := loop.time() - began) > PAUSE_SECONDS:
            pauses.append(took)


async def test_who_sends_a_hundred_times_as_much_gets_no_more_than_its_weight_while_others_wait(
    client: redis.Redis, settings: MeterSettings
) -> None:
    greedy, modest, other = (customer(client, number) for number in (1, 2, 3))
    engine = Engine(SLOTS)
    async with gateways(settings, 3) as (first, second, third):
        many = [
            gateway.keep_asking(greedy, DEPLOYMENT, engine)
            for gateway in (first, second, third)
            for _ in range(200)
        ]
        async with crowd(*many):
            await eventually(lambda: first.lines.waiting + third.lines.waiting > 300)
            served = await served_while_all_wait(
                engine, {"2": (second, modest), "3": (third, other)}, requests=300
            )
    fair = served.total() / 3
    assert served["1"] <= 1.2 * fair
    assert min(served["2"], served["3"]) >= 0.8 * fair


async def test_slots_are_shared_by_weight(client: redis.Redis, settings: MeterSettings) -> None:
    light, heavy = customer(client, 1), customer(client, 2, weight=3)
    engine = Engine(SLOTS)
    async with (
        gateways(settings, 2) as (first, second),
        crowd(*[first.keep_asking(light, DEPLOYMENT, engine) for _ in range(60)]),
    ):
        served = await served_while_all_wait(engine, {"2": (second, heavy)}, requests=200, each=8 * SLOTS)
    assert 0.8 * 150 <= served["2"] <= 1.2 * 150


async def test_long_requests_count_for_as_long_as_they_hold_a_slot(
    client: redis.Redis, settings: MeterSettings
) -> None:
    short, long = customer(client, 1), customer(client, 2)
    engine = Engine(SLOTS, seconds={"1": 0.02, "2": 0.1})
    async with (
        gateways(settings, 2) as (first, second),
        crowd(*[first.keep_asking(short, DEPLOYMENT, engine) for _ in range(60)]),
    ):
        await served_while_all_wait(engine, {"2": (second, long)}, requests=150)
    share = engine.slot_seconds["2"] / engine.slot_seconds.total()
    assert 0.3 <= share <= 0.65


async def test_interactive_requests_come_before_batch_ones_whoever_s_they_are(
    client: redis.Redis, settings: MeterSettings
) -> None:
    batch = customer(client, 1, priority=Priority.BATCH)
    person = customer(client, 2)
    engine = Engine(SLOTS)
    async with (
        gateways(settings, 2) as (first, second),
        crowd(*[first.keep_asking(batch, DEPLOYMENT, engine) for _ in range(30)]),
    ):
        served = await served_while_all_wait(engine, {"2": (second, person)}, requests=100, each=8 * SLOTS)
        assert served["2"] >= 0.9 * served.total()
        await eventually(lambda: engine.served["1"] > 20)
