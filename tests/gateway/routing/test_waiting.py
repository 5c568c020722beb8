"""Waiting for a deployment's slot: what is held meanwhile, and how it ends."""

import asyncio
from dataclasses import replace

import msgspec
import pytest
import redis

from headrace_contracts import channels
from headrace_contracts.access import Limit, LimitKind, PriceCard
from headrace_contracts.usage import Ending
from headrace_gateway.call import DeploymentFull
from headrace_gateway.errors import CapacityExhausted, InsufficientBalance, LimitReached, LimitsUnavailable
from headrace_gateway.http.exchange import ClientGone
from headrace_gateway.http.problems import ShuttingDown
from headrace_gateway.limits import slots
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.routing.lines import QueueBounds
from tests.gateway.account import MODEL, ONE_MICRO, call, everything
from tests.gateway.limits.ground import let_lapse
from tests.gateway.routing.crowd import Client, Gateway, customer, gateways, slotted
from tests.gateway.waiting import eventually

ONE = slotted(1)
BEATING = {"hr:gateways", "hr:reaper", "hr:turns:deployment_1"}


def held(client: redis.Redis) -> dict[str, bytes]:
    return {name: content for name, content in everything(client).items() if name not in BEATING}


async def waits(gateway: Gateway, count: int = 1) -> None:
    await eventually(lambda: gateway.lines.waiting == count)


async def test_who_waits_holds_no_lease_and_no_money_and_goes_when_the_slot_is_free(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account = customer(client, 1)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(account, ONE)
        money = account.money()
        waiting = asyncio.create_task(gateway.admit(account, ONE))
        await waits(gateway)
        assert account.money() == money
        assert list(gateway.meter.running) == [lease.id]
        assert gateway.meter.table.running == 1
        await gateway.settle(lease, ONE)
        second, _ = await waiting
        assert second.id != lease.id
        await gateway.settle(second, ONE)
        assert client.get("hr:slots:deployment_1") is None


async def test_a_slot_that_another_gateway_frees_is_found_by_asking(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account = customer(client, 1)
    async with gateways(settings, 2) as (first, second):
        lease, _ = await first.admit(account, ONE)
        waiting = asyncio.create_task(second.admit(account, ONE))
        await waits(second)
        await first.settle(lease, ONE)
        await second.settle((await waiting)[0], ONE)


async def test_the_slot_of_a_gateway_that_died_comes_back_by_the_reaper(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account = customer(client, 1)
    async with gateways(settings, 2) as (first, second):
        lease, _ = await first.admit(account, ONE)
        waiting = asyncio.create_task(second.admit(account, ONE))
        await waits(second)
        first.meter.running.clear()  # it renews nothing any more
        let_lapse(client, lease.id)
        await second.settle((await waiting)[0], ONE)
        assert client.get("hr:slots:deployment_1") is None


async def test_a_client_that_hangs_up_while_it_waits_leaves_nothing(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account, patient = customer(client, 1), customer(client, 2)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(patient, ONE)
        before = held(client)
        someone = Client()
        waiting = asyncio.create_task(gateway.admit(account, ONE, client=someone))
        await waits(gateway)
        await eventually(lambda: client.exists("hr:waiting:deployment_1"))
        someone.hang_up()
        with pytest.raises(ClientGone):
            await waiting
        await eventually(lambda: not gateway.lines.waits_for(ONE))
        after = held(client)
        after.pop(f"hr:lease:{lease.id}"), before.pop(f"hr:lease:{lease.id}")  # renewed by heartbeats
        after.pop("hr:leases"), before.pop("hr:leases")
        assert after == before
        await gateway.settle(lease, ONE)


async def test_nobody_waits_for_longer_than_is_said(client: redis.Redis, settings: MeterSettings) -> None:
    account, impatient = customer(client, 1), slotted(1, wait_seconds=0.1)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(account, impatient)
        with pytest.raises(CapacityExhausted) as refused:
            await gateway.admit(account, impatient)
        assert refused.value.queue_length == 0
        assert account.money()[1] == 30, "something of the refused one is held"
        await gateway.settle(lease, impatient)


@pytest.mark.parametrize("bound", [0, 1])
async def test_who_is_refused_at_once_is_told_when_to_come_again_too(
    client: redis.Redis, settings: MeterSettings, bound: int
) -> None:
    """One that may not wait, and one of a burst: neither finds a line that has asked how all stand."""
    account, hasty = customer(client, 1), slotted(1, wait_seconds=None if bound else 0)
    bounds = QueueBounds(wait_seconds=60, requests_max=bound or 8, org_requests_max=8)
    async with gateways(settings, 1, bounds=bounds) as [gateway]:
        client.hset("hr:turns:deployment_1", mapping={"mean": 50_000, "ended": 1})
        lease, _ = await gateway.admit(account, hasty)
        burst = [asyncio.create_task(gateway.admit(account, hasty)) for _ in range(3)]
        refused = await asyncio.gather(*burst[bound:], return_exceptions=True)
        for each in refused:
            assert isinstance(each, CapacityExhausted)
            assert each.retry_after_seconds is not None
        await gateway.settle(lease, hasty)
        for served in burst[:bound]:
            await gateway.settle((await served)[0], hasty)


async def test_lines_are_bounded_for_each_organisation_and_in_all(
    client: redis.Redis, settings: MeterSettings
) -> None:
    accounts = [customer(client, number) for number in (1, 2, 3)]
    bounds = QueueBounds(wait_seconds=30, requests_max=3, org_requests_max=2)
    async with gateways(settings, 1, bounds=bounds) as [gateway]:
        lease, _ = await gateway.admit(accounts[0], ONE)
        waiting = [asyncio.create_task(gateway.admit(accounts[0], ONE)) for _ in range(2)]
        await waits(gateway, 2)
        with pytest.raises(CapacityExhausted) as too_many_of_one:
            await gateway.admit(accounts[0], ONE)
        assert too_many_of_one.value.queue_length == 2
        waiting.append(asyncio.create_task(gateway.admit(accounts[1], ONE)))
        await waits(gateway, 3)
        with pytest.raises(CapacityExhausted):
            await gateway.admit(accounts[2], ONE)
        await gateway.settle(lease, ONE)
        for served in asyncio.as_completed(waiting):
            await gateway.settle((await served)[0], ONE)


async def test_at_shutdown_who_waits_is_told_at_once_and_so_is_who_comes_later(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account = customer(client, 1)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(account, ONE)
        waiting = asyncio.create_task(gateway.admit(account, ONE))
        await waits(gateway)
        gateway.lines.end(ShuttingDown())
        with pytest.raises(ShuttingDown):
            await waiting
        with pytest.raises(ShuttingDown):
            await gateway.admit(account, ONE)
        await eventually(lambda: not client.exists("hr:waiting:deployment_1"))
        await gateway.settle(lease, ONE)


async def test_who_may_not_run_at_all_does_not_wait(client: redis.Redis, settings: MeterSettings) -> None:
    account, limited, poor = (customer(client, number) for number in (1, 2, 3))
    limited.push_key(limits=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=0)])
    poor.fund(1)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(account, ONE)
        with pytest.raises(LimitReached):
            await gateway.admit(limited, ONE)
        with pytest.raises(InsufficientBalance):
            await gateway.admit(poor, ONE)
        await gateway.settle(lease, ONE)


async def test_whose_money_ends_while_it_waits_is_told_when_its_turn_comes_and_the_slot_goes_on(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account, poor = customer(client, 1), customer(client, 2)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(account, ONE)
        first = asyncio.create_task(gateway.admit(poor, ONE))
        await waits(gateway)
        second = asyncio.create_task(gateway.admit(account, ONE))
        await waits(gateway, 2)
        poor.fund(1)
        await gateway.settle(lease, ONE)
        with pytest.raises(InsufficientBalance):
            await first
        await gateway.settle((await second)[0], ONE)


async def test_who_comes_later_does_not_take_the_slot_for_which_another_gateway_s_clients_wait(
    client: redis.Redis, settings: MeterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both gateways are this process: where it stands still, the first one's line must not lapse before the second asks.
    monkeypatch.setattr(slots, "STANDS_MS", 60_000)
    account, other = customer(client, 1), customer(client, 2)
    async with gateways(settings, 2) as (first, second):
        lease, _ = await first.admit(account, ONE)
        waiting = asyncio.create_task(first.admit(account, ONE))
        await waits(first)
        await eventually(lambda: client.exists("hr:waiting:deployment_1"))
        with pytest.raises(DeploymentFull):
            await second.meter.admit(call(other, deployment=slotted(2)))
        await first.settle(lease, ONE)
        await first.settle((await waiting)[0], ONE)


async def test_a_request_that_waits_at_two_deployments_takes_the_first_slot_and_leaves_both_lines(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account, another = customer(client, 1), msgspec.structs.replace(ONE, id="deployment_2")
    async with gateways(settings, 1) as [gateway]:
        here, _ = await gateway.admit(account, ONE)
        there, _ = await gateway.admit(account, another)
        waiting = asyncio.create_task(gateway.admit(account, ONE, another))
        await waits(gateway, 2)
        await gateway.settle(there, another)
        lease, deployment = await waiting
        assert deployment == another
        assert gateway.lines.waiting == 0
        await gateway.settle(here, ONE)
        await gateway.settle(lease, another)


async def test_who_may_not_use_the_other_model_after_all_waits_on_for_its_own(
    client: redis.Redis, settings: MeterSettings
) -> None:
    account, limited = customer(client, 1), customer(client, 2, models=[MODEL])
    models = {MODEL: ONE_MICRO, "glm-other": ONE_MICRO}
    account.push(channels.prices("USD"), PriceCard(price_book="book_2", currency="USD", models=models))
    another = msgspec.structs.replace(ONE, id="deployment_2", model="glm-other", aliases=[])
    async with gateways(settings, 1) as [gateway]:
        here, _ = await gateway.admit(account, ONE)
        there, _ = await gateway.admit(account, another)
        before = asyncio.create_task(gateway.admit(account, another))
        await waits(gateway)
        waiting = asyncio.create_task(gateway.admit(limited, ONE, another))
        await waits(gateway, 3)
        await gateway.settle(there, another)
        await gateway.settle((await before)[0], another)
        await eventually(lambda: not gateway.lines.waits_for(another))
        assert not waiting.done()
        await gateway.settle(here, ONE)
        lease, deployment = await waiting
        assert deployment == ONE
        await gateway.settle(lease, ONE)


@pytest.mark.parametrize("slots", [2, None])
async def test_who_waits_gets_the_slots_that_are_added_meanwhile(
    client: redis.Redis, settings: MeterSettings, slots: int | None
) -> None:
    account = customer(client, 1)
    async with gateways(settings, 1) as [gateway]:
        lease, _ = await gateway.admit(account, ONE)
        waiting = asyncio.create_task(gateway.admit(account, ONE))
        await waits(gateway)
        gateway.table["deployment_1"] = msgspec.structs.replace(ONE, slots=slots)
        second, deployment = await waiting
        assert deployment.slots == slots
        await gateway.settle(lease, ONE)
        await gateway.settle(second, deployment)


async def test_without_valkey_nobody_waits_on(client: redis.Redis, settings: MeterSettings) -> None:
    account, hasty = customer(client, 1), replace(settings, settle_wait_seconds=0.25)
    async with gateways(hasty, 1) as [gateway]:
        lease, _ = await gateway.admit(account, ONE)
        waiting = asyncio.create_task(gateway.admit(account, ONE))
        await waits(gateway)
        await gateway.meter.limiter.valkey.close()
        with pytest.raises(LimitsUnavailable):
            await waiting
        await lease.settle(Ending.COMPLETED)
