"""The stream, the sweep and the cold load, on a real Valkey that may lose everything."""

import asyncio
import hashlib
from collections.abc import Mapping
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.accounts import jobs as account_jobs
from headrace_billing.accounts.jobs import RestartWatch, load_if_cold
from headrace_billing.database import Database
from headrace_billing.ingest import jobs, journal_store
from headrace_billing.ledger import spendable
from headrace_billing.valkey import ValkeyError
from headrace_contracts import channels
from headrace_contracts.usage import UsageEvent, encode_event
from tests.billing.ingest.usage import Gateway, books, take
from tests.billing.seller import Seller
from tests.support.valkey import bounded

JOURNAL = channels.journal("gateway-0.0", "boot-1")
SPENT_MICROS = 750  # of one event of the tests


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    return Gateway(await seller.customer(), await seller.publish_prices())


class Draining:
    """What a load waits for while gateways send again: as long as a test wants."""

    def __init__(self) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    async def sleep(self, _seconds: float) -> None:
        self.begun.set()
        await self.over.wait()


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> Draining:
    waits = Draining()
    loop = SimpleNamespace(sleep=waits.sleep, get_running_loop=asyncio.get_running_loop)
    monkeypatch.setattr(account_jobs, "asyncio", loop)
    return waits


async def append(valkey: Redis, *events: UsageEvent | bytes, entry: str = "*") -> None:
    """As `settle` does, as far as the stream goes."""
    for event in events:
        raw = event if isinstance(event, bytes) else encode_event(event)
        await valkey.xadd(channels.USAGE, {channels.USAGE_FIELD: raw}, id=entry)


async def hold_pending(valkey: Redis, event: UsageEvent, micros: int = SPENT_MICROS) -> None:
    """As `settle` does, as far as the wallet goes."""
    await valkey.hset(channels.pending(event.wallet), event.id, str(micros))
    await valkey.hincrby(channels.wallet(event.wallet), "pend", micros)


async def wallet_of(valkey: Redis, wallet: str) -> dict[str, int]:
    fields: Mapping[Any, Any] = await valkey.hgetall(channels.wallet(wallet))
    return {name.decode(): int(value) for name, value in fields.items()}


async def acknowledged(valkey: Redis) -> dict[str, int]:
    fields: Mapping[Any, Any] = await valkey.hgetall(channels.ACKNOWLEDGED)
    return {name.decode(): int(value) for name, value in fields.items()}


async def dump(valkey: Redis) -> dict[bytes, Mapping[Any, Any]]:
    """Every hash but the wallets' counters of the gateways."""
    return {key: await valkey.hgetall(key) async for key in valkey.scan_iter(_type="hash")}


async def test_what_the_stream_brings_is_booked_acknowledged_and_taken_out_of_pending(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    events = [gateway.event() for _ in range(3)]
    for event in events:
        await hold_pending(valkey, event)
    await append(valkey, *events)
    assert await jobs.take_from_stream(database, valkey) == 3
    wallet = await wallet_of(valkey, gateway.customer.wallet)
    assert (wallet["bal"], wallet["pend"]) == (5_000_000 - 3 * SPENT_MICROS, 0)
    assert not await valkey.exists(channels.pending(gateway.customer.wallet))
    assert await acknowledged(valkey) == {JOURNAL: 3}
    assert await jobs.take_from_stream(database, valkey) == 0


async def test_the_stream_is_trimmed_below_what_is_committed_and_no_further(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    await append(valkey, gateway.event(), gateway.event())
    await jobs.take_from_stream(database, valkey)
    await append(valkey, gateway.event())
    await jobs.trim(database, valkey)
    assert await valkey.xlen(channels.USAGE) == 2  # the last one committed, and the one that is not
    await database.close()
    await append(valkey, gateway.event())


async def test_nothing_is_trimmed_while_postgres_can_not_commit(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    await append(valkey, gateway.event())
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE usage_rollups RENAME TO away"))
    with pytest.raises(Exception, match="usage_rollups"):
        await jobs.take_from_stream(database, valkey)
    assert await valkey.xlen(channels.USAGE) == 1
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE away RENAME TO usage_rollups"))
        assert (await session.execute(text("SELECT count(*) FROM usage_quarantine"))).scalar_one() == 0
    assert await jobs.take_from_stream(database, valkey) == 1


async def test_a_full_valkey_s_stream_is_booked_and_makes_room(
    database: Database, valkey: Redis, valkey_url: str, gateway: Gateway
) -> None:
    events = [gateway.event() for _ in range(3)]
    for event in events:
        await hold_pending(valkey, event)
    await append(valkey, *events)
    with redis.Redis.from_url(valkey_url) as client, bounded(client, 1):
        with pytest.raises(ValkeyError, match="maxmemory"):
            await jobs.take_from_stream(database, valkey)
        await jobs.trim(database, valkey)
        assert await valkey.xlen(channels.USAGE) == 1, "the last one, which stays"
    assert await jobs.sweep_pending(database, valkey) == 3
    wallet = await wallet_of(valkey, gateway.customer.wallet)
    assert (wallet["bal"], wallet["pend"]) == (5_000_000 - 3 * SPENT_MICROS, 0)


async def test_two_workers_at_once_book_each_event_once(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    await append(valkey, *(gateway.event() for _ in range(40)))
    await asyncio.gather(*(jobs.take_from_stream(database, valkey) for _ in range(3)))
    async with database.begin() as session:
        (rollup,) = (await books(session))["rollups"]
    assert rollup[6] == 40


async def test_a_long_stream_is_booked_batch_by_batch_by_however_many_workers(
    database: Database, valkey: Redis, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH_MAX", 4)
    monkeypatch.setattr(jobs, "BATCHES_MAX", 3)
    await append(valkey, *(gateway.event() for _ in range(15)))
    assert [await jobs.take_from_stream(database, valkey) for _ in range(3)] == [12, 3, 0]
    await append(valkey, *(gateway.event() for _ in range(30)))
    while sum(await asyncio.gather(*(jobs.take_from_stream(database, valkey) for _ in range(3)))):
        pass
    async with database.begin() as session:
        (rollup,) = (await books(session))["rollups"]
    assert rollup[6] == 45
    assert await acknowledged(valkey) == {JOURNAL: 45}


async def test_a_batch_that_can_not_be_committed_leaves_the_one_read_ahead_for_the_next_time(
    database: Database, valkey: Redis, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH_MAX", 2)
    await append(valkey, *(gateway.event() for _ in range(5)))
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE usage_rollups RENAME TO away"))
    with pytest.raises(Exception, match="usage_rollups"):
        await jobs.take_from_stream(database, valkey)
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE away RENAME TO usage_rollups"))
    assert await jobs.take_from_stream(database, valkey) == 5


async def test_an_entry_that_is_no_event_does_not_stop_the_stream(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    await append(valkey, b"\xff{", gateway.event(session="a\x00b"), gateway.event())
    await valkey.xadd(channels.USAGE, {"other": "field"})
    await append(valkey, gateway.event())
    assert await jobs.take_from_stream(database, valkey) == 5
    async with database.begin() as session:
        assert (await session.execute(text("SELECT count(*) FROM usage_quarantine"))).scalar_one() == 3
    assert await acknowledged(valkey) == {JOURNAL: 3}


async def test_a_stream_that_began_anew_with_lower_ids_is_read_from_its_beginning(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    await append(valkey, gateway.event())
    await jobs.take_from_stream(database, valkey)
    await valkey.flushall()
    await append(valkey, gateway.event(), entry="5-1")
    taken = [await jobs.take_from_stream(database, valkey) for _ in range(2)]
    assert taken == [0, 1]


async def test_an_older_balance_never_replaces_a_newer_one_and_pushing_again_does_no_harm(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    wallet = gateway.customer.wallet
    event = gateway.event()
    await take(database, event)
    await hold_pending(valkey, event)
    for _ in range(2):
        await spendable.push(database, valkey, [], posted={wallet: [event.id]})
        assert (await wallet_of(valkey, wallet))["pend"] == 0
    await valkey.hset(channels.wallet(wallet), mapping={"bal": 7, "ver": 10**6})
    await spendable.push(database, valkey, [wallet])
    assert (await wallet_of(valkey, wallet))["bal"] == 7


async def test_the_sweep_takes_out_of_pending_what_is_posted_and_nothing_else(
    database: Database, valkey: Redis, gateway: Gateway
) -> None:
    posted, under_way = gateway.event(), gateway.event()
    await take(database, posted)
    await hold_pending(valkey, posted)
    await hold_pending(valkey, under_way, 42)
    assert await jobs.sweep_pending(database, valkey) == 1
    assert (await wallet_of(valkey, gateway.customer.wallet))["pend"] == 42
    assert await valkey.hkeys(channels.pending(gateway.customer.wallet)) == [under_way.id.encode()]


async def test_the_sweep_waits_while_the_stream_has_piled_up(
    database: Database, valkey: Redis, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SWEEP_BACKLOG_MAX", 2)
    posted = gateway.event()
    await take(database, posted)
    await hold_pending(valkey, posted)
    await append(valkey, *(gateway.event() for _ in range(3)))
    assert await jobs.sweep_pending(database, valkey) == 0
    await jobs.take_from_stream(database, valkey)
    assert await jobs.sweep_pending(database, valkey) == 1


async def test_an_empty_valkey_is_loaded_from_postgres_and_opened_last(
    seller: Seller, database: Database, valkey: Redis, gateway: Gateway, draining: Draining
) -> None:
    await take(database, gateway.event())
    await spendable.push_waiting(database, valkey)
    await journal_store.publish_waiting(database, valkey)
    await seller.post(f"/v1/keys/{gateway.customer.key}/revoke")
    before = await dump(valkey)
    await valkey.flushall()
    loading = asyncio.create_task(load_if_cold(database, valkey, drain_wait_seconds=1))
    await draining.begun.wait()
    assert not await valkey.exists(channels.EPOCH)
    late = gateway.event()
    await take(database, late)  # sent again by a gateway while admission is closed
    draining.over.set()
    assert await loading
    assert await valkey.exists(channels.EPOCH)
    after = await dump(valkey)
    assert (await wallet_of(valkey, late.wallet))["bal"] == 5_000_000 - 2 * SPENT_MICROS
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert differing == {channels.wallet(late.wallet).encode()}
    assert not await load_if_cold(database, valkey, drain_wait_seconds=0)


async def test_a_loaded_valkey_opens_when_every_gateway_has_beaten_twice(
    database: Database, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_jobs, "TAKE_BACK_SECONDS_MAX", 60)
    await valkey.zadd(channels.GATEWAYS, {"gateway-0": 1, "gateway-1": 1})
    loading = asyncio.create_task(load_if_cold(database, valkey, drain_wait_seconds=0))
    async with asyncio.timeout(30):
        while not await valkey.exists(channels.OPENING):  # noqa: ASYNC110 - it is in Valkey
            await asyncio.sleep(0.01)
    # It looks every tenth of a second, and may come too late for one beat.
    for beat in range(2, 10):
        await valkey.zadd(channels.GATEWAYS, {"gateway-0": beat, "gateway-1": 2})
        await asyncio.sleep(0.1)
    assert not await valkey.exists(channels.EPOCH)
    beats = count(3)
    while not loading.done():
        await valkey.zadd(channels.GATEWAYS, {"gateway-1": next(beats)})
        await asyncio.sleep(0.1)
    assert await loading
    assert await valkey.exists(channels.EPOCH)


async def test_a_valkey_that_is_emptied_while_it_is_loaded_is_not_opened(
    database: Database, valkey: Redis, gateway: Gateway, draining: Draining
) -> None:
    await take(database, gateway.event())
    loading = asyncio.create_task(load_if_cold(database, valkey, drain_wait_seconds=1))
    await draining.begun.wait()
    await valkey.flushall()
    draining.over.set()
    assert not await loading
    assert not await valkey.exists(channels.EPOCH, channels.OPENING)
    assert await load_if_cold(database, valkey, drain_wait_seconds=0)
    assert await valkey.exists(channels.project(gateway.customer.project))


async def test_a_valkey_that_lost_its_last_second_is_told_again_what_was_pushed(
    seller: Seller, database: Database, valkey: Redis, gateway: Gateway
) -> None:
    await load_if_cold(database, valkey, drain_wait_seconds=0)
    watch = RestartWatch()
    assert await watch.repair(database, valkey)
    place = channels.key(hashlib.sha256(gateway.customer.secret.encode()).hexdigest())
    before: Any = await valkey.dump(place)
    await seller.post(f"/v1/keys/{gateway.customer.key}/revoke")
    told = await dump(valkey)

    await valkey.restore(place, 0, before, replace=True)
    await valkey.hset(channels.wallet(gateway.customer.wallet), mapping={"bal": 1, "ver": 0})
    assert not await watch.repair(database, valkey)  # the same run: nothing can be lost
    watch.run_id = "the run before"
    assert await watch.repair(database, valkey)
    assert await dump(valkey) == told


async def test_two_workers_do_not_both_load_a_cold_valkey(database: Database, valkey: Redis) -> None:
    loads = await asyncio.gather(*(load_if_cold(database, valkey, drain_wait_seconds=0.2) for _ in range(2)))
    assert sorted(loads) == [False, True]
