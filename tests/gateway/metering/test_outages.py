"""A Valkey that stalls or drops its connections delays settlements and loses none."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from headrace_contracts.usage import Ending
from headrace_gateway.errors import LimitsUnavailable
from headrace_gateway.metering import revocation
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.segments import read_records
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.valkey.errors import ValkeyError
from tests.gateway.account import Account, call, usage
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS
from tests.gateway.line import Line
from tests.gateway.waiting import eventually


@pytest.fixture
async def meter(account: Account, settings: MeterSettings) -> AsyncIterator[GatewayMeter]:
    async with open_meter(settings) as opened:
        yield opened


async def test_a_stalled_valkey_delays_a_client_by_a_quarter_second_at_most(
    account: Account, settings: MeterSettings
) -> None:
    quarter = replace(settings, settle_wait_seconds=MeterSettings.settle_wait_seconds)
    async with open_meter(quarter) as meter:
        leases = [await meter.admit(call(account)) for _ in range(3)]
        with stopped(account.client):
            started = asyncio.get_running_loop().time()
            await asyncio.gather(*(lease.settle(Ending.COMPLETED, usage=usage(1, 1)) for lease in leases))
            # Nobody waited for Valkey, which does not go on before; far longer would be its own time limit.
            assert 0.2 <= asyncio.get_running_loop().time() - started < VALKEY_TIMEOUT_SECONDS / 2
            # The journal has them already.
            await asyncio.wait_for(meter.journal.durable(3), 30)
            assert len([record for path in meter.journal.segments for record in read_records(path)]) == 3
            # Until Valkey has counted them too, their slots stand.
            assert meter.table.running == 3
            assert meter.settler.outstanding == 3

        await eventually(lambda: not meter.settler.outstanding)
        assert meter.table.running == 0
        assert account.money() == (1_000_000, 0, 6)
        assert {event.id for event in account.events()} == {lease.id for lease in leases}


async def test_a_key_expires_without_valkey_too(
    account: Account, settings: MeterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.push_key(expires_at_us=2**52)
    line = Line()
    async with (
        line.open(settings.valkey_url),
        open_meter(replace(settings, valkey_url=line.url)) as meter,
    ):
        lease = await meter.admit(call(account))
        line.cut()
        await eventually(lambda: not meter.limiter.valkey.connected)
        assert not lease.revoked.is_set()
        monkeypatch.setattr(revocation, "time", SimpleNamespace(time_ns=lambda: 2**53 * 1000))
        await eventually(lease.revoked.is_set)


@contextmanager
def stopped(client: redis.Redis) -> Iterator[None]:
    """The Valkey behind it stands still."""
    about: Any = client.info("server")
    os.kill(about["process_id"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(about["process_id"], signal.SIGCONT)


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
