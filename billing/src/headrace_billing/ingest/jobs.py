"""The stream's only reader, and the sweep of what stayed pending.

The stream is a fast path that may lose everything: the journals bring again what it lost. So it is read from the
cursor that stands in Postgres, moved by the very transaction that stores the events, and trimmed only below that.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog
from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.ingest import journal_store, store
from headrace_billing.ingest.arrival import ID, Arrival, read
from headrace_billing.ingest.batch import ingest
from headrace_billing.ingest.journal_store import BEGINNING, CursorMoved
from headrace_billing.ingest.publish import publish
from headrace_billing.ledger import spendable
from headrace_contracts import channels

log = structlog.get_logger()

# Large enough that a transaction's fixed cost doesn't matter, small enough to be done within a second.
BATCH_MAX = 8000
# Taken in one go while there is more; then whoever stops the worker is heard.
BATCHES_MAX = 8
# About a millisecond's work: for so long, at most, Postgres waits for a batch that is read ahead.
DECODED_AT_ONCE = 100
# Shorter than Valkey's reply timeout; how long SIGTERM may have to wait for an idle reader.
BLOCK_MS = 500
SWEEP_BATCH_MAX = 2000
# Some seconds of the busiest traffic.
SWEEP_BACKLOG_MAX = 4 * BATCH_MAX


async def take_from_stream(database: Database, valkey: Redis) -> int:
    """Reads, commits and acknowledges batch after batch; how many entries. Waits a moment for the first.

    While one batch is committed the next is read, so that neither this process nor Postgres waits for the other.
    """
    async with database.begin() as session:
        since = await journal_store.cursor(session)
    arrivals = await _read(valkey, since)
    if not arrivals:
        await _forget_another_streams_cursor(database, valkey, since)
    taken = 0
    for batches_left in reversed(range(BATCHES_MAX)):
        if not arrivals:
            break
        last = arrivals[-1].entry
        assert last is not None, "an arrival from the stream without its entry"
        more = len(arrivals) == BATCH_MAX and batches_left
        following = asyncio.create_task(_read(valkey, last)) if more else None
        try:
            if not await _book(database, valkey, arrivals, since=since):
                break
        finally:
            if following is not None and not following.done():
                following.cancel()
        taken += len(arrivals)
        since, arrivals = last, [] if following is None else await following
    return taken


async def _book(database: Database, valkey: Redis, arrivals: Sequence[Arrival], *, since: str) -> bool:
    """False if another worker has taken them."""
    try:
        result = await ingest(database, arrivals, source="stream", since=since)
    except CursorMoved:
        log.info("stream_cursor_moved_by_another_worker", since=since)
        return False
    await publish(database, valkey, result)
    await trim(database, valkey)
    return True


async def trim(database: Database, valkey: Redis) -> None:
    """Drops from the stream what is committed, but for the last entry, and nothing else."""
    async with database.begin() as session:
        committed = await journal_store.cursor(session)
    if committed != BEGINNING:
        await valkey.xtrim(channels.USAGE, minid=committed, approximate=False)


async def sweep_pending(database: Database, valkey: Redis) -> int:
    """Takes ids out of pending that Postgres has posted; how many were still there.

    They are left where an event came by the journal before its settlement reached Valkey, or where a process
    died between its commit and its push. While the stream has piled up nearly all that is pending is simply not
    booked yet, and whoever looks it all up keeps the stream waiting.
    """
    if await valkey.xlen(channels.USAGE) > SWEEP_BACKLOG_MAX:
        return 0
    swept = 0
    async for wallet, ids in _pending(valkey):
        posted = await _posted(database, ids)
        if posted:
            await spendable.push(database, valkey, [], posted={wallet: posted})
            swept += len(posted)
    return swept


async def _read(valkey: Redis, since: str) -> list[Arrival]:
    streams = await valkey.xread({channels.USAGE: since}, count=BATCH_MAX, block=BLOCK_MS)
    entries = [entry for _, entries in _pairs(streams) for entry in entries]
    field = channels.USAGE_FIELD.encode()
    arrivals: list[Arrival] = []
    for begins in range(0, len(entries), DECODED_AT_ONCE):
        chunk = entries[begins : begins + DECODED_AT_ONCE]
        arrivals += [read(fields.get(field, b""), entry=entry.decode()) for entry, fields in chunk]
        # Lets the batch that is being committed send its next statement.
        await asyncio.sleep(0)
    return arrivals


def _pairs(streams: object) -> Sequence[tuple[bytes, Sequence[tuple[bytes, dict[bytes, bytes]]]]]:
    """The client answers a list of pairs in one protocol version and a dict of lists of lists in the other."""
    if not streams:
        return []
    if isinstance(streams, dict):
        return [(name, [entry for chunk in chunks for entry in chunk]) for name, chunks in streams.items()]
    assert isinstance(streams, list), type(streams)
    return streams


async def _forget_another_streams_cursor(database: Database, valkey: Redis, since: str) -> None:
    """A Valkey that lost its memory, or whose clock is behind, gives ids below our cursor: read it all."""
    if since == BEGINNING or not await valkey.exists(channels.USAGE):
        return
    stream = await valkey.xinfo_stream(channels.USAGE)
    if _parsed(stream["last-generated-id"].decode()) < _parsed(since):
        log.warning("stream_began_anew", committed=since)
        async with database.begin() as session:
            await journal_store.move_cursor(session, since=since, to=BEGINNING)


def _parsed(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


async def _pending(valkey: Redis) -> AsyncIterator[tuple[str, list[str]]]:
    prefix, suffix = channels.pending("*").split("*")
    async for key in valkey.scan_iter(match=channels.pending("*"), count=SWEEP_BATCH_MAX):
        wallet = key.decode().removeprefix(prefix).removesuffix(suffix)
        ids: list[str] = []
        async for request, _ in valkey.hscan_iter(key, count=SWEEP_BATCH_MAX):
            ids.append(request.decode())
            if len(ids) == SWEEP_BATCH_MAX:
                yield wallet, ids
                ids = []
        if ids:
            yield wallet, ids


async def _posted(database: Database, ids: Sequence[str]) -> list[str]:
    # Whoever put anything else there knows better what to do with it.
    requests = {request for request in ids if ID.fullmatch(request)}
    async with database.begin() as session:
        return sorted({request for request, _ in await store.known(session, requests)})
