"""A Valkey that stalls or drops its connections delays settlements and loses none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from headrace_contracts.usage import Ending
from headrace_gateway.errors import LimitsUnavailable
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.segments import read_records
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.valkey.errors import ValkeyError
from tests.gateway.account import Account, call, usage
from tests.gateway.waiting import eventually


@pytest.fixture
async def meter(account: Account, settings: MeterSettings) -> AsyncIterator[GatewayMeter]:
    async with open_meter(settings) as opened:
        yield opened


async def test_a_stalled_valkey_delays_a_client_by_a_quarter_second_at_most(
    account: Account, meter: GatewayMeter
) -> None:
    leases = [await meter.admit(call(account)) for _ in range(3)]
    account.client.client_pause(1500, all=True)
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(lease.settle(Ending.COMPLETED, usage=usage(1, 1)) for lease in leases))
    assert 0.2 <= asyncio.get_running_loop().time() - started < 0.6
    # The journal has them already.
    await asyncio.wait_for(meter.journal.durable(3), 5)
    assert len([record for path in meter.journal.segments for record in read_records(path)]) == 3
    # Until Valkey has counted them too, their slots stand.
    assert meter.table.running == 3

    await eventually(lambda: not meter.settler.outstanding)
    assert meter.table.running == 0
    assert account.money() == (1_000_000, 0, 6)
    assert {event.id for event in account.events()} == {lease.id for lease in leases}


async def test_settlements_under_a_dropped_connection_are_sent_again(
    account: Account, meter: GatewayMeter
) -> None:
    leases = [await meter.admit(call(account)) for _ in range(20)]
    settling = asyncio.gather(*(lease.settle(Ending.COMPLETED, usage=usage(1, 1)) for lease in leases))
    await asyncio.sleep(0)
    account.client.client_kill_filter(_type="normal", skipme=True)
    await settling
    await eventually(lambda: not meter.settler.outstanding)
    # Whichever were executed before: counted once, and in the stream at least once.
    assert account.money() == (1_000_000, 0, 40)
    assert {event.id for event in account.events()} == {lease.id for lease in leases}
    # All may have been executed before, and the loss be noticed only now.
    with suppress(ValkeyError):
        await meter.limiter.valkey.call("PING")
    await eventually(lambda: meter.limiter.valkey.connected)
    await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))


async def test_nothing_new_is_admitted_without_valkey(account: Account, settings: MeterSettings) -> None:
    nobody = replace(settings, valkey_url="redis://127.0.0.1:9")
    async with open_meter(nobody) as meter:
        with pytest.raises(LimitsUnavailable):
            await meter.admit(call(account))
        assert meter.not_ready == "limits_unavailable"
        assert meter.table.running == 0
