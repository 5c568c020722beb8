"""The transactional outbox: what gateways must know is written with the change itself, and pushed after it.

One row a Valkey key, replaced by the next change, so the table is at once the queue of what is still to push and the
list of what a cold Valkey must be given. A push never replaces a newer record, and pushing again does no harm. Limits that
a record brings have counted the past before gateways hear of it (beginning.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.beginning import beginnings, count_the_past
from headrace_billing.database import Database
from headrace_contracts.access import encode_record

PUSH_BATCH_MAX = 500
# A record that is no longer live must outlast every request that may still hold the one before it.
RETIRED_SECONDS = 24 * 3600


async def write(session: AsyncSession, key: str, record: msgspec.Struct, *, live: bool = True) -> int:
    """Puts the record into the outbox of the caller's transaction; its version.

    Versions come from one sequence and are drawn under the row's lock, so they grow in the order of the commits.
    A record that is not `live` is pushed once more and then left to expire, and a cold Valkey never hears of it.
    """
    version: int = (
        await session.execute(UPSERT, {"key": key, "record": encode_record(record).decode(), "live": live})
    ).scalar_one()
    return version


async def push(database: Database, valkey: Redis, keys: Sequence[str]) -> None:
    """Pushes what is committed under `keys`. Raises `ValkeyError`; the worker tries again anyway."""
    async with database.begin() as session:
        entries = _entries(await session.execute(SELECT_KEYS, {"keys": list(keys)}))
    await _push(database, valkey, entries)


async def push_waiting(database: Database, valkey: Redis) -> int:
    """Pushes a batch of what was never pushed in its newest version; how many."""
    async with database.begin() as session:
        entries = _entries(await session.execute(SELECT_WAITING, {"limit": PUSH_BATCH_MAX}))
    await _push(database, valkey, entries)
    return len(entries)


async def push_everything(database: Database, valkey: Redis, *, counted: bool = False) -> int:
    """Gives Valkey every live record; how many. `counted`: it is cold, and its counters are filled for all at once."""
    after, count = "", 0
    while True:
        async with database.begin() as session:
            entries = _entries(
                await session.execute(SELECT_LIVE_AFTER, {"after": after, "limit": PUSH_BATCH_MAX})
            )
        await _push(database, valkey, entries, counted=counted)
        count += len(entries)
        if len(entries) < PUSH_BATCH_MAX:
            return count
        after = entries[-1].key


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    version: int
    record: str
    live: bool


async def _push(
    database: Database, valkey: Redis, entries: Sequence[Entry], *, counted: bool = False
) -> None:
    if counted:
        await _send(database, valkey, entries)
        return
    begin = await beginnings(valkey, {entry.key: entry.record for entry in entries if entry.live})
    # A revocation, say, waits for nobody's past.
    await _send(database, valkey, [entry for entry in entries if entry.key not in begin.records])
    if not begin.records:
        return
    failed = await count_the_past(database, valkey, begin)
    brought = [entry for entry in entries if entry.key in begin.records]
    await _send(database, valkey, [entry for entry in brought if begin.records[entry.key].isdisjoint(failed)])
    if failed:
        # What is not pushed waits for the next time.
        raise next(iter(failed.values()))


async def _send(database: Database, valkey: Redis, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    script = valkey.register_script(PUSH_SCRIPT)
    async with valkey.pipeline(transaction=False) as pipeline:
        for entry in entries:
            ttl = 0 if entry.live else RETIRED_SECONDS
            await script(keys=[entry.key], args=[entry.version, entry.record, ttl], client=pipeline)
        await pipeline.execute()
    async with database.begin() as session:
        await session.execute(
            MARK_PUSHED, {"keys": [e.key for e in entries], "versions": [e.version for e in entries]}
        )


def _entries(rows: Iterable[Row[Any]]) -> list[Entry]:
    return [Entry(row.key, int(row.version), row.record, row.live) for row in rows]


PUSH_SCRIPT = """
local standing = redis.call('HGET', KEYS[1], 'v')
if standing and tonumber(standing) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'r', ARGV[2])
if tonumber(ARGV[3]) > 0 then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
else
  redis.call('PERSIST', KEYS[1])
end
return 1
"""

UPSERT = text("""
    INSERT INTO outbox AS o (key, version, record, live)
    VALUES (:key, nextval('record_versions'), :record, :live)
    ON CONFLICT (key) DO UPDATE
    SET version = nextval('record_versions'), record = excluded.record, live = excluded.live
    RETURNING version
""")

SELECT_KEYS = text("SELECT key, version, record, live FROM outbox WHERE key = ANY(:keys)")

SELECT_WAITING = text("""
    SELECT key, version, record, live FROM outbox WHERE pushed_version < version ORDER BY version LIMIT :limit
""")

SELECT_LIVE_AFTER = text("""
    SELECT key, version, record, live FROM outbox WHERE live AND key > :after ORDER BY key LIMIT :limit
""")

MARK_PUSHED = text("""
    UPDATE outbox o SET pushed_version = greatest(o.pushed_version, p.version)
    FROM unnest(CAST(:keys AS text[]), CAST(:versions AS bigint[])) AS p (key, version) WHERE o.key = p.key
""")
