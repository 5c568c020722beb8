"""Coming to rest after a run, within a bounded wait, and reading from every place what the audit wants to know."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
import redis.asyncio
from psycopg.rows import dict_row

from headrace_contracts import channels
from headrace_contracts.access import LimitKind
from headrace_contracts.usage import Ending, Grade
from tests.chaos.disk import FILLER
from tests.chaos.engine import DEPLOYMENT
from tests.chaos.facts import Event, Facts, Overdraft, Wallet
from tests.chaos.faults import Faults
from tests.chaos.market import NANOS_A_TOKEN, Market
from tests.chaos.schedule import GATEWAYS
from tests.chaos.stack import Stack
from tests.chaos.traffic import Traffic

# Longer than lease, reaper, resend (10 s, then with growing pauses up to 30 s) and sweep need one after the other.
REST_SECONDS_MAX = 90.0
POLL_SECONDS = 0.25

LEASES, REAPED = "hr:leases", "hr:reaped"
TAKEN_SLOTS = f"hr:slots:{DEPLOYMENT}"

Row = Mapping[str, Any]


async def collect(stack: Stack, market: Market, traffic: Traffic, faults: Faults) -> Facts:
    for member in stack.members:
        member.go_on()
        await member.ready()
    async with redis.asyncio.Redis.from_url(stack.valkey_url, decode_responses=True) as valkey:
        books = Books(stack.database_url)
        unrest = await _rest(
            {
                "leases stand": lambda: _none(valkey.zcard(LEASES)),
                "holds of reaped requests stand": lambda: _none(valkey.zcard(REAPED)),
                "the stream is not ingested": lambda: _stream_at_rest(valkey, books),
                "engine records are not shipped": lambda: _engine_shipped(stack, books),
            }
        )
        # Ends well only when billing has acknowledged every event of theirs.
        statuses = await asyncio.gather(*(gateway.end() for gateway in stack.gateways))
        unrest += [
            f"{gateway.name} ended with status {status}"
            for gateway, status in zip(stack.gateways, statuses, strict=True)
            if status
        ]
        unrest += await _rest(
            {
                "wallets are not pushed": lambda: _none(books.count(WALLETS_TO_PUSH)),
                "pending amounts remain": lambda: _nothing_pending(valkey, market),
            }
        )
        report = await market.reconciliation()
        return Facts(
            served=list(stack.engine.served.values()),
            events=[_event(row) for row in await books.rows(EVENTS)],
            replies=traffic.replies,
            customers=market.customers,
            wallets=[await _wallet(row, valkey) for row in await books.rows(WALLETS)],
            overdrafts=[_overdraft(row) for row in await books.rows(OVERDRAFTS)],
            befallen=faults.befallen,
            conflicts=[str(row["id"]) for row in await books.rows(CONFLICTS)],
            quarantined=[row["reason"] for row in await books.rows(QUARANTINE)],
            journal_gaps=[f"{row['producer']}:{row['boot']}" for row in await books.rows(GAPS)],
            posted_nanos={row["org"]: int(row["nanos"]) for row in await books.rows(POSTED)},
            rollup_requests=await books.count(ROLLUPS),
            leases=[str(request) for request in await valkey.zrange(LEASES, 0, -1)],
            gauges=await _gauges(valkey, market),
            left_in_state=_left_in_state(stack),
            revoked_at_us=faults.revoked_at_us,
            reconciliation=report["status"],
            reconciliation_reasons=[
                f"{one['id']}: {one['reason']}: {one['detail']}"
                for one in report["unreconciled"]
                if one["status"] == "red"
            ],
            unrest=unrest,
        )


class Books:
    def __init__(self, url: str) -> None:
        self._url = url

    async def rows(self, statement: str) -> list[Row]:
        connection = await psycopg.AsyncConnection.connect(self._url, row_factory=dict_row)
        async with connection:
            found: list[Row] = list(await (await connection.execute(statement.encode())).fetchall())
            return found

    async def count(self, statement: str) -> int:
        [row] = await self.rows(statement)
        return int(row["count"])


async def _rest(conditions: Mapping[str, Callable[[], Awaitable[bool]]]) -> list[str]:
    """What did not come true in time."""
    until = time.monotonic() + REST_SECONDS_MAX
    waiting = dict(conditions)
    while waiting and time.monotonic() < until:
        for name, holds in list(waiting.items()):
            if await holds():
                del waiting[name]
        if waiting:
            await asyncio.sleep(POLL_SECONDS)
    return list(waiting)


async def _none(count: Awaitable[int]) -> bool:
    return await count == 0


async def _stream_at_rest(valkey: "redis.asyncio.Redis", books: Books) -> bool:
    if not await valkey.exists(channels.USAGE):
        return True
    last = (await valkey.xinfo_stream(channels.USAGE))["last-generated-id"]
    return any(row["committed"] == last for row in await books.rows(CURSORS))


async def _engine_shipped(stack: Stack, books: Books) -> bool:
    ended = sum(served.ended_at_us is not None for served in stack.engine.served.values())
    return ended == len(stack.engine.served) == await books.count(ENGINE_RECORDS)


async def _nothing_pending(valkey: "redis.asyncio.Redis", market: Market) -> bool:
    for customer in market.customers:
        if await valkey.hlen(channels.pending(customer.wallet)):
            return False
    return True


async def _wallet(row: Row, valkey: "redis.asyncio.Redis") -> Wallet:
    there = await valkey.hgetall(channels.wallet(row["id"]))
    return Wallet(
        id=row["id"],
        balance_nanos=int(row["balance_nanos"]),
        balance_micros=int(there.get("bal", 0)),
        held_micros=int(there.get("held", 0)),
        pending_micros=int(there.get("pend", 0)),
        pending_ids=[str(request) for request in await valkey.hkeys(channels.pending(row["id"]))],
    )


async def _gauges(valkey: "redis.asyncio.Redis", market: Market) -> dict[str, int]:
    found = {}
    if taken := int(await valkey.get(TAKEN_SLOTS) or 0):
        found[TAKEN_SLOTS] = taken
    for customer in market.customers:
        for key in customer.keys if customer.concurrency is not None else ():
            counter = channels.counter(LimitKind.CONCURRENCY.value, "key", key)
            if count := int(await valkey.get(counter) or 0):
                found[counter] = count
    return found


def _left_in_state(stack: Stack) -> list[str]:
    return [
        f"{name}: {path.name}"
        for name, disk in zip(GATEWAYS, stack.disks, strict=True)
        for path in disk.folder.rglob("*")
        if path.is_file() and path.name not in ("lock", FILLER)
    ]


def _event(row: Row) -> Event:
    output = row["tokens_output_visible"] + row["tokens_reasoning"]
    cost = sum(row[f"tokens_{kind}"] * nanos for kind, nanos in NANOS_A_TOKEN.items() if kind != "output")
    return Event(
        id=str(row["id"]),
        grade=Grade(row["grade"]),
        ending=Ending(row["ending"]),
        key=row["key"],
        wallet=row["wallet"],
        org=row["org"],
        attempts=row["attempts"],
        input=row["tokens_input_uncached"] + row["tokens_cache_read"] + row["tokens_cache_write"],
        output=output,
        cost_nanos=cost + output * NANOS_A_TOKEN["output"],
        received_at_us=int(row["received_at_us"]),
        finished_at_us=int(row["finished_at_us"]),
        batch=row["batch"],
        stored_at_us=int(row["stored_at_us"]),
    )


def _overdraft(row: Row) -> Overdraft:
    return Overdraft(
        wallet=row["owner"],
        nanos=int(row["amount_nanos"]),
        batch=int(row["batch"]),
        posted_at_us=int(row["posted_at_us"]),
    )


EVENTS = """
    SELECT *, (extract(epoch FROM received_at) * 1000000)::bigint AS received_at_us,
           (extract(epoch FROM finished_at) * 1000000)::bigint AS finished_at_us,
           (extract(epoch FROM stored_at) * 1000000)::bigint AS stored_at_us
    FROM usage_events ORDER BY received_at
"""
WALLETS = """
    SELECT w.id,
           coalesce((SELECT sum(remaining_nanos) FROM credit_lots WHERE wallet = w.id), 0)
           - coalesce((SELECT amount_nanos FROM ledger_balances WHERE kind = 'overdraft' AND owner = w.id), 0)
             AS balance_nanos
    FROM wallets w ORDER BY w.id
"""
OVERDRAFTS = """
    SELECT p.owner, p.amount_nanos, t.memo ->> 'batch' AS batch,
           (extract(epoch FROM t.recorded_at) * 1000000)::bigint AS posted_at_us
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE t.kind = 'usage' AND p.kind = 'overdraft' AND p.amount_nanos > 0 ORDER BY t.id
"""
POSTED = """
    SELECT p.owner AS org, sum(p.amount_nanos) AS nanos
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE t.kind = 'usage' AND p.kind = 'unbilled' GROUP BY p.owner
"""
CONFLICTS = "SELECT id FROM usage_conflicts"
QUARANTINE = "SELECT reason FROM usage_quarantine"
GAPS = "SELECT producer, boot FROM journals WHERE above <> '[]'"
CURSORS = "SELECT committed FROM stream_cursors"
ROLLUPS = "SELECT coalesce(sum(requests), 0) AS count FROM usage_rollups"
ENGINE_RECORDS = "SELECT count(*) AS count FROM engine_records WHERE ending <> 'started'"
WALLETS_TO_PUSH = "SELECT count(*) AS count FROM wallets WHERE pushed_version < version"
