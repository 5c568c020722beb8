"""A killed gateway's requests are settled by whoever comes next, each once, to what was last relayed."""

import asyncio
import dataclasses
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headrace_contracts import channels
from headrace_contracts.usage import Ending, Grade, UsageEvent
from headrace_gateway.errors import DuplicateRequest, Overloaded
from headrace_gateway.metering import recovery
from headrace_gateway.metering.inflight import read_table
from headrace_gateway.metering.journal import Journal
from headrace_gateway.metering.meter import open_meter
from headrace_gateway.metering.recovery import Recovery
from headrace_gateway.metering.settings import RESEND_AFTER_SECONDS_MAX, MeterSettings
from tests.gateway import forking
from tests.gateway.account import Account, call, usage
from tests.gateway.billing import Billing, running_billing
from tests.gateway.conftest import INGEST_TOKEN
from tests.gateway.limits.ground import let_lapse
from tests.gateway.waiting import eventually


@pytest.fixture
def billing() -> Iterator[Billing]:
    with running_billing(INGEST_TOKEN) as running:
        yield running


@pytest.fixture
def to_billing(settings: MeterSettings, billing: Billing) -> MeterSettings:
    return dataclasses.replace(settings, billing_url=billing.url, resend_after_seconds=0.2)


class Told(msgspec.Struct):
    """What a child said of its requests before it was killed."""

    running: dict[str, int] = {}
    settled: dict[str, int] = {}


def files(state: Path) -> list[str]:
    return sorted(path.name for path in state.rglob("*") if path.is_file() and path.name != "lock")


def killed_gateway(account: Account, settings: MeterSettings, *, running: int, settled: int) -> Told:
    """Runs a gateway in a child until it relays, and kills it in the midst of that."""
    reading, writing = os.pipe()

    async def serve() -> None:
        async with open_meter(settings) as meter:
            for count in range(settled):
                lease = await meter.admit(call(account, streamed=True))
                lease.attempt()
                await lease.settle(Ending.COMPLETED, usage=usage(10, count))
                os.write(writing, msgspec.json.encode(Told(settled={lease.id: 10 + count})) + b"\n")
            leases = [await meter.admit(call(account, streamed=True)) for _ in range(running)]
            for lease in leases:
                lease.attempt()
            for output in range(1, 256):
                for lease in leases:
                    lease.relayed(usage(10, output), output_tokens=output, first=output == 1)
                    told = Told(running={lease.id: 10 + output})
                    os.write(writing, msgspec.json.encode(told) + b"\n")
                await asyncio.sleep(0.002)
            await asyncio.sleep(600)  # it is killed, however late

    child = forking.start(lambda: asyncio.run(serve()))
    os.close(writing)
    all_told = Told()
    with os.fdopen(reading, "rb") as pipe:
        for line in pipe:
            told = msgspec.json.decode(line, type=Told)
            all_told.running.update(told.running)
            all_told.settled.update(told.settled)
            if len(all_told.running) == running and min(all_told.running.values(), default=99) > 40:
                break
        forking.kill(child)
        for line in pipe:
            if line.endswith(b"\n"):
                all_told.running.update(msgspec.json.decode(line, type=Told).running)
    return all_told


def finals(account: Account) -> dict[str, UsageEvent]:
    events = [event for event in account.events() if event.grade is Grade.FINAL]
    assert len({event.id for event in events}) == len(events)
    return {event.id: event for event in events}


async def test_a_killed_gateways_requests_are_settled_at_the_next_start(
    account: Account, to_billing: MeterSettings, billing: Billing
) -> None:
    told = await asyncio.to_thread(killed_gateway, account, to_billing, running=3, settled=2)
    assert len(files(to_billing.state_dir)) == 3  # a table and two segments
    assert account.client.zcard("hr:leases") == 3

    async with open_meter(to_billing) as meter:
        await eventually(lambda: not meter.settler.outstanding)
        events = finals(account)
        assert set(events) == set(told.running) | set(told.settled)
        for request, total in told.running.items():
            event = events[request]
            # It was told after it was noted, so at most one more chunk stands there than was told.
            assert event.tokens.total in {total, total + 1}
            assert (event.ending, event.attempts) == (Ending.GATEWAY_LOST, 1)
            assert event.first_token_at_us is not None
            assert event.finished_at_us >= event.first_token_at_us
        assert {request: events[request].tokens.total for request in told.settled} == told.settled
        balance, held, pending = account.money()
        assert (held, pending) == (0, sum(event.tokens.total for event in events.values()))
        assert account.client.zcard("hr:leases") == 0

        # The dead one's journal and ours both come to billing, and nothing is kept.
        await eventually(lambda: len(billing.events) == 5)
        assert {event.id for event in billing.events.values()} == set(events)
        assert billing.conflicts == []
        assert await meter.close(20)
    assert files(to_billing.state_dir) == []
    assert balance == 1_000_000


async def test_a_client_s_own_id_of_a_request_that_died_with_its_gateway_may_be_used_again(
    account: Account, to_billing: MeterSettings
) -> None:
    reading, writing = os.pipe()

    async def serve() -> None:
        async with open_meter(to_billing) as meter:
            served = await meter.admit(call(account, once="served"))
            await served.settle(Ending.COMPLETED, usage=usage(10, 1))
            (await meter.admit(call(account, once="cut off"))).attempt()
            os.write(writing, b"x")
            await asyncio.sleep(600)

    child = forking.start(lambda: asyncio.run(serve()))
    await asyncio.to_thread(os.read, reading, 1)
    forking.kill(child)
    [path] = to_billing.state_dir.rglob("*.inflight")
    async with open_meter(to_billing) as meter:
        await eventually(lambda: not path.exists())
        with pytest.raises(DuplicateRequest):
            await meter.admit(call(account, once="served"))
        await (await meter.admit(call(account, once="cut off"))).settle(Ending.COMPLETED, usage=usage(10, 1))
        assert await meter.close(20)
    os.close(reading)
    os.close(writing)


async def test_recovery_after_the_reaper_adds_the_final_event_and_corrects_the_estimate(
    account: Account, to_billing: MeterSettings
) -> None:
    told = await asyncio.to_thread(killed_gateway, account, to_billing, running=1, settled=0)
    [request] = told.running
    let_lapse(account.client, request)
    other = dataclasses.replace(to_billing, name="other", state_dir=to_billing.state_dir / "elsewhere")
    async with open_meter(other):
        await eventually(lambda: account.client.zcard("hr:leases") == 0)
    async with open_meter(to_billing) as meter:
        await eventually(lambda: not meter.settler.outstanding)
        [estimate, final] = account.events()
        assert (estimate.grade, final.grade) == (Grade.ESTIMATED, Grade.FINAL)
        assert estimate.tokens.total <= final.tokens.total
        # A token is a micro-unit.
        assert account.money() == (1_000_000, 0, final.tokens.total)


async def test_a_recovery_that_is_itself_killed_makes_no_second_event(
    account: Account, to_billing: MeterSettings, billing: Billing
) -> None:
    """Kills successors again and again while they settle; the last one finishes."""
    billing.failing = True
    told = await asyncio.to_thread(killed_gateway, account, to_billing, running=8, settled=0)

    async def recover() -> None:
        async with open_meter(to_billing):
            await asyncio.sleep(60)

    for attempt in range(6):
        child = forking.start(lambda: asyncio.run(recover()))
        await asyncio.sleep(0.01 * attempt)
        forking.kill(child)
    billing.failing = False
    async with open_meter(to_billing):
        await eventually(lambda: len(billing.events) == len(told.running))
        assert billing.conflicts == []
        assert {event.id for event in billing.events.values()} == set(told.running)
        # By settlement, or by the reaper where a kill came between a journal and Valkey.
        await eventually(lambda: account.money()[1] == 0, seconds=20)


async def test_what_is_journalled_of_a_dead_table_is_noted_while_the_rest_waits_for_space(
    account: Account, to_billing: MeterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_gateway.metering.meter.RECOVERY_WAIT_SECONDS", 0.1)
    monkeypatch.setattr("headrace_gateway.metering.recovery.RESERVE_RETRY_SECONDS", 0.01)
    told = await asyncio.to_thread(killed_gateway, account, to_billing, running=3, settled=0)
    [path] = to_billing.state_dir.rglob("*.inflight")
    reserve, space = Journal.reserve, 1

    def reserve_one(journal: Journal) -> bool:
        nonlocal space
        space -= 1
        return space >= 0 and reserve(journal)

    monkeypatch.setattr(Journal, "reserve", reserve_one)
    async with open_meter(to_billing):
        # From here on billing may have it, and its segment go.
        await eventually(lambda: any(slot.journalled for slot in read_table(path)))
        monkeypatch.setattr(Journal, "reserve", reserve)
        await eventually(lambda: set(finals(account)) == set(told.running))
        await eventually(lambda: not path.exists())


async def test_a_recovery_that_was_killed_is_known_from_its_journal_although_billing_has_that(
    account: Account, to_billing: MeterSettings, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("headrace_gateway.metering.meter.RECOVERY_PERIOD_SECONDS", 600)
        async with open_meter(to_billing) as first:
            told = await asyncio.to_thread(killed_gateway, account, to_billing, running=1, settled=0)
            assert await first.close(20)
    [path] = to_billing.state_dir.rglob("*.inflight")
    assert path.parent.name == "gateway-1"

    def recover() -> None:
        # In the moment between the journal and the table.
        patch = pytest.MonkeyPatch()
        patch.setattr(recovery, "note_journalled", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        asyncio.run(stay())

    async def stay() -> None:
        async with open_meter(to_billing):
            await asyncio.sleep(600)

    _, status = await asyncio.to_thread(os.waitpid, forking.start(recover), 0)
    assert os.WIFSIGNALED(status)

    note_dead = Recovery._note_dead

    def acknowledge_at_once(recovery: Recovery) -> None:
        note_dead(recovery)
        for journal in list(recovery._dead):
            journal.acknowledge(journal.last_sequence)

    monkeypatch.setattr(Recovery, "_note_dead", acknowledge_at_once)
    async with open_meter(to_billing) as meter:
        await eventually(lambda: not path.exists())
        await eventually(lambda: not meter.settler.outstanding)
        [first_told, *told_again] = account.events()
        assert {first_told.id} == set(told.running)
        assert all(event == first_told for event in told_again)
        assert billing.conflicts == []


async def test_a_dead_workers_folder_is_taken_over_by_a_living_one(
    account: Account, to_billing: MeterSettings, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_gateway.metering.meter.RECOVERY_PERIOD_SECONDS", 0.05)
    async with open_meter(to_billing) as first:
        told = await asyncio.to_thread(killed_gateway, account, to_billing, running=2, settled=1)
        await eventually(lambda: len(billing.events) == 3)
        producers = {event.producer for event in billing.events.values()}
        assert producers == {"gateway-0", "gateway-1"}
        assert set(finals(account)) == set(told.running) | set(told.settled)
        assert await first.close(20)
    await eventually(lambda: files(to_billing.state_dir) == [])


async def test_what_the_stream_lost_comes_over_http_and_only_then_goes(
    account: Account, to_billing: MeterSettings, billing: Billing
) -> None:
    billing.failing = True
    async with open_meter(to_billing) as meter:
        for _ in range(5):
            await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
        account.client.delete(channels.USAGE)
        await asyncio.sleep(0.4)
        assert billing.events == {}
        assert not await meter.close(0.2)
    assert len(files(to_billing.state_dir)) == 1

    billing.failing = False
    async with open_meter(to_billing) as meter:
        await eventually(lambda: len(billing.events) == 5)
        await eventually(lambda: len(files(to_billing.state_dir)) == 3)  # its own table and two segments
        assert await meter.close(20)


async def test_what_billing_acknowledged_is_not_sent_again(
    account: Account, to_billing: MeterSettings, billing: Billing
) -> None:
    # Nothing is overdue before it is acknowledged, however long that takes.
    patient = dataclasses.replace(to_billing, resend_after_seconds=RESEND_AFTER_SECONDS_MAX)
    async with open_meter(patient) as meter:
        for _ in range(3):
            await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
        account.client.hset(channels.ACKNOWLEDGED, meter.journal.name, 3)
        await eventually(lambda: meter.journal.acknowledged == 3)
        # From here on all that is not acknowledged would be sent.
        assert await meter.close(20)
        before = meter.rounds["resend"]
        await eventually(lambda: meter.rounds["resend"] > before)
    assert billing.batches == 0
    assert files(to_billing.state_dir) == []
    assert account.client.zrange(channels.GATEWAYS, 0, -1) == []


async def test_a_gap_does_not_keep_what_lies_behind_it_from_billing(
    account: Account, to_billing: MeterSettings, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_gateway.metering.resend.EVENTS_MAX", 2)
    billing.misses_the_first = True
    async with open_meter(to_billing) as meter:
        for _ in range(7):
            await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
        await eventually(lambda: len(billing.events) == 7)
        assert meter.journal.acknowledged == 0


async def test_deaths_do_not_fill_the_disk(
    account: Account, to_billing: MeterSettings, billing: Billing
) -> None:
    billing.failing = True

    def taken() -> int:
        return sum(path.stat().st_size for path in to_billing.state_dir.rglob("*.journal"))

    for _ in range(3):
        await asyncio.to_thread(killed_gateway, account, to_billing, running=1, settled=1)
    async with open_meter(to_billing):
        # Its own two, and of the dead what their events take.
        await eventually(lambda: taken() < 2 * to_billing.segment_bytes + 16 * 1024)


async def test_a_start_on_a_full_disk_sends_what_is_left_behind_and_then_serves(
    account: Account, to_billing: MeterSettings, billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_gateway.metering.meter.RECOVERY_PERIOD_SECONDS", 0.05)
    monkeypatch.setattr("headrace_gateway.metering.meter.RECOVERY_WAIT_SECONDS", 0.2)
    told = await asyncio.to_thread(killed_gateway, account, to_billing, running=0, settled=2)
    allocate, full = os.posix_fallocate, True

    def posix_fallocate(descriptor: int, offset: int, size: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    async with open_meter(to_billing) as meter:
        with pytest.raises(Overloaded, match="no space to record"):
            await meter.admit(call(account))
        assert not meter.journal.writable
        await eventually(lambda: {event.id for event in billing.events.values()} == set(told.settled))
        full = False
        await eventually(lambda: meter.journal.writable and meter.table.created)
        await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
        assert await meter.close(5)
    assert files(to_billing.state_dir) == []
