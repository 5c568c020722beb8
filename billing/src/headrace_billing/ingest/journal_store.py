"""How far each gateway's journal, and the stream, are committed; and telling the gateways so."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.ingest.arrival import Place
from headrace_billing.ingest.journal import Received
from headrace_contracts import channels

PUBLISH_BATCH_MAX = 500
BEGINNING = "0-0"

Journal = tuple[str, str]
"""Producer and boot."""


class CursorMoved(Exception):
    """Another worker has committed from the stream meanwhile; read again from where it is now."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Which table tells how much of somebody's numbers has been received."""

    select: TextClause
    upsert: TextClause


async def note_received(
    session: AsyncSession, places: Iterable[Place], *, numbered_by: Numbering
) -> dict[Journal, int]:
    """Advances the journals; how far each of them is safe now."""
    sequences: dict[Journal, list[int]] = {}
    for place in places:
        sequences.setdefault((place.producer, place.boot), []).append(place.sequence)
    standing = await _received(session, list(sequences), numbered_by)
    rows = []
    for (producer, boot), numbers in sorted(sequences.items()):
        received = standing.get((producer, boot), Received()).with_more(numbers)
        standing[producer, boot] = received
        rows.append(
            {
                "producer": producer,
                "boot": boot,
                "contiguous": received.contiguous,
                "above": [list(pair) for pair in received.above],
            }
        )
    await session.execute(numbered_by.upsert, {"rows": json.dumps(rows)})
    return {journal: standing[journal].contiguous for journal in sequences}


async def publish_waiting(database: Database, valkey: Redis) -> int:
    """Tells gateways what they may forget, where they have not been told; how many journals."""
    async with database.begin() as session:
        rows = (await session.execute(SELECT_WAITING, {"limit": PUBLISH_BATCH_MAX})).all()
    await _publish(database, valkey, {(row.producer, row.boot): int(row.contiguous) for row in rows})
    return len(rows)


async def publish_everything(database: Database, valkey: Redis) -> None:
    """For a cold Valkey. A journal that nobody asks for any more costs a field of a hash."""
    async with database.begin() as session:
        rows = (await session.execute(SELECT_ALL)).all()
    await _publish(database, valkey, {(row.producer, row.boot): int(row.contiguous) for row in rows})


async def cursor(session: AsyncSession) -> str:
    """The last entry of the stream that is committed."""
    committed: str | None = (await session.execute(SELECT_CURSOR, {"stream": channels.USAGE})).scalar()
    return committed or BEGINNING


async def move_cursor(session: AsyncSession, *, since: str, to: str) -> None:
    """Raises `CursorMoved` unless it still stands at `since`."""
    if await cursor(session) != since:
        raise CursorMoved
    await session.execute(UPSERT_CURSOR, {"stream": channels.USAGE, "committed": to})


async def _received(
    session: AsyncSession, journals: list[Journal], numbered_by: Numbering
) -> dict[Journal, Received]:
    rows = await session.execute(
        numbered_by.select, {"producers": [j[0] for j in journals], "boots": [j[1] for j in journals]}
    )
    return {
        (row.producer, row.boot): Received(
            int(row.contiguous), tuple((first, last) for first, last in row.above)
        )
        for row in rows
    }


async def _publish(database: Database, valkey: Redis, safe: Mapping[Journal, int]) -> None:
    if not safe:
        return
    script = valkey.register_script(PUBLISH_SCRIPT)
    fields = [
        part
        for (producer, boot), sequence in safe.items()
        for part in (channels.journal(producer, boot), sequence)
    ]
    await script(keys=[channels.ACKNOWLEDGED], args=fields)
    async with database.begin() as session:
        await session.execute(
            MARK_PUBLISHED,
            {
                "producers": [producer for producer, _ in safe],
                "boots": [boot for _, boot in safe],
                "sequences": list(safe.values()),
            },
        )


PUBLISH_SCRIPT = """
for i = 1, #ARGV, 2 do
  local standing = redis.call('HGET', KEYS[1], ARGV[i])
  if not standing or tonumber(standing) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
"""

JOURNALS = Numbering(
    select=text("""
        SELECT j.producer, j.boot, j.contiguous, j.above
        FROM journals j JOIN unnest(CAST(:producers AS text[]), CAST(:boots AS text[])) AS w (producer, boot)
          USING (producer, boot)
    """),
    upsert=text("""
        INSERT INTO journals (producer, boot, contiguous, above)
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
          AS r (producer text, boot text, contiguous bigint, above jsonb)
        ON CONFLICT (producer, boot)
        DO UPDATE SET contiguous = excluded.contiguous, above = excluded.above, updated_at = now()
    """),
)

# A gap is looked at by how long it has been open.
METERS = Numbering(
    select=text("""
        SELECT m.meter AS producer, m.source AS boot, m.contiguous, m.above
        FROM meter_sequences m JOIN unnest(CAST(:producers AS text[]), CAST(:boots AS text[])) AS w (meter, source)
          USING (meter, source)
    """),
    upsert=text("""
        INSERT INTO meter_sequences AS m (meter, source, contiguous, above, gap_since)
        SELECT r.producer, r.boot, r.contiguous, r.above, CASE WHEN r.above <> '[]' THEN now() END
        FROM jsonb_to_recordset(CAST(:rows AS jsonb))
          AS r (producer text, boot text, contiguous bigint, above jsonb)
        ON CONFLICT (meter, source) DO UPDATE SET
          contiguous = excluded.contiguous, above = excluded.above, updated_at = now(),
          gap_since = CASE WHEN excluded.above <> '[]' THEN coalesce(m.gap_since, now()) END
    """),
)

SELECT_WAITING = text("""
    SELECT producer, boot, contiguous FROM journals WHERE published < contiguous LIMIT :limit
""")

SELECT_ALL = text("SELECT producer, boot, contiguous FROM journals WHERE contiguous > 0")

MARK_PUBLISHED = text("""
    UPDATE journals j SET published = greatest(j.published, p.sequence)
    FROM unnest(CAST(:producers AS text[]), CAST(:boots AS text[]), CAST(:sequences AS bigint[]))
      AS p (producer, boot, sequence)
    WHERE j.producer = p.producer AND j.boot = p.boot
""")

SELECT_CURSOR = text("SELECT committed FROM stream_cursors WHERE stream = :stream")

UPSERT_CURSOR = text("""
    INSERT INTO stream_cursors (stream, committed) VALUES (:stream, :committed)
    ON CONFLICT (stream) DO UPDATE SET committed = excluded.committed
""")
