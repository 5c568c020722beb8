"""Usage in Postgres: events as they came, those kept aside, rollups and rated quantities.

Only an ingest transaction writes here, and there is one at a time (`batch.commit` holds the lock), so what is read
is what is written against.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import copy_rows
from headrace_billing.ingest.arrival import EPOCH, MICROSECOND, Identity, Usage, instant
from headrace_billing.ingest.effects import HOUR_US, NO_KEY
from headrace_billing.ingest.fingerprint import fingerprint
from headrace_billing.rating.book import PriceBook
from headrace_contracts.usage import Dialect, Grade, UsageEvent, decode_event, encode_event


@dataclass(frozen=True, slots=True)
class Directory:
    """Whom the events of a batch name, as far as they exist."""

    projects: Mapping[str, str]
    """→ organisation"""
    keys: Mapping[str, str]
    """→ project"""
    wallets: Mapping[str, tuple[str, str]]
    """→ organisation, currency"""

    def refusal(self, event: UsageEvent) -> str | None:
        """Why the event can't be anybody's."""
        if self.projects.get(event.project) != event.org:
            return "unknown_project"
        nameless = event.dialect is Dialect.OUTSIDE and event.key == NO_KEY
        if self.keys.get(event.key) != event.project and not nameless:
            return "unknown_key"
        if self.wallets.get(event.wallet) != (event.org, event.currency):
            return "unknown_wallet"
        return None


async def directory(session: AsyncSession, events: Sequence[UsageEvent]) -> Directory:
    projects = await session.execute(SELECT_PROJECTS, {"ids": sorted({e.project for e in events})})
    keys = await session.execute(SELECT_KEYS, {"ids": sorted({e.key for e in events})})
    wallets = await session.execute(SELECT_WALLETS, {"ids": sorted({e.wallet for e in events})})
    return Directory(
        {row.id: row.org for row in projects},
        {row.id: row.project for row in keys},
        {row.id: (row.org, row.currency) for row in wallets},
    )


async def begin_batch(session: AsyncSession, *, source: str, meter: str | None, events: int) -> int:
    parameters = {"source": source, "meter": meter, "events": events}
    batch: int = (await session.execute(INSERT_BATCH, parameters)).scalar_one()
    return batch


async def known(session: AsyncSession, requests: Iterable[str]) -> dict[Identity, bytes]:
    """Which events of these requests are stored, with what they said."""
    rows = await session.execute(SELECT_KNOWN, {"ids": _array(requests)})
    return {Identity(str(row.id), Grade(row.grade)): bytes(row.payload_hash) for row in rows}


async def stored(session: AsyncSession, requests: Iterable[str]) -> dict[str, Usage]:
    """One event of each of these requests."""
    rows = await session.execute(SELECT_STORED, {"ids": _array(requests)})
    events = [decode_event(row.payload.encode()) for row in rows]
    return {event.id: Usage(event, fingerprint(event)) for event in events}


async def insert_events(
    session: AsyncSession, usages: Iterable[Usage], books: Mapping[str, PriceBook], *, batch: int
) -> None:
    """None of them may be stored already: whoever inserts has looked, under the lock that every writer holds."""
    windows: dict[tuple[str, str, int], str] = {}

    def window(event: UsageEvent) -> str:
        place = (event.price_book, event.model_served, event.received_at_us // HOUR_US)
        if place not in windows:
            at = instant(event.received_at_us)
            windows[place] = books[event.price_book].window_of(event.model_served, at)
        return windows[place]

    # In the order of ids, which is mostly that of time: each index grows where it grew before. Each row is made while
    # Postgres stores those before it.
    rows = (_event_row(usage, window(usage.event), batch) for usage in sorted(usages, key=_by_id))
    await copy_rows(session, COPY_EVENTS, rows, types=[kind for _, kind in EVENT_COLUMNS])


async def keep_conflict(session: AsyncSession, usage: Usage, *, source: str) -> None:
    await session.execute(
        INSERT_CONFLICT,
        {
            "id": usage.id,
            "grade": usage.event.grade,
            "payload_hash": usage.payload_hash,
            "payload": encode_event(usage.event).decode(),
            "source": source,
        },
    )


async def quarantine(session: AsyncSession, refused: Iterable[tuple[bytes, str]], *, source: str) -> None:
    """Each with its reason."""
    rows = [{"raw": raw, "reason": reason, "source": source} for raw, reason in refused]
    if rows:
        await session.execute(INSERT_QUARANTINE, rows)


def _by_id(usage: Usage) -> str:
    return usage.event.id


def _array(requests: Iterable[str]) -> str:
    """As Postgres writes it: ids need no quotes, and thousands of them are dumped at once."""
    return "{" + ",".join(sorted(set(requests))) + "}"


def _event_row(usage: Usage, window: str, batch: int) -> tuple[Any, ...]:
    """The columns of `EVENT_COLUMNS`, in its order and types."""
    event = usage.event
    tokens = event.tokens
    first_token_at_us = event.first_token_at_us
    return (
        bytes.fromhex(event.id.replace("-", "")),
        int(event.grade),
        batch,
        event.producer,
        event.boot,
        event.sequence,
        event.org,
        event.project,
        event.key,
        event.wallet,
        event.currency,
        event.deployment,
        event.model_requested,
        event.model_served,
        event.dialect,
        event.session,
        event.task,
        event.task_attempt,
        event.received_at_us - POSTGRES_EPOCH_US,
        None if first_token_at_us is None else first_token_at_us - POSTGRES_EPOCH_US,
        event.finished_at_us - POSTGRES_EPOCH_US,
        event.ending,
        event.attempts,
        tokens.input_uncached,
        tokens.cache_read,
        tokens.cache_write,
        tokens.output_visible,
        tokens.reasoning,
        event.price_book,
        event.disposition,
        event.service_tier,
        window,
        event.witnessed,
        encode_event(event),
        usage.payload_hash,
    )


SELECT_PROJECTS = text("SELECT id, org FROM projects WHERE id = ANY(:ids)")
SELECT_KEYS = text("SELECT id, project FROM api_keys WHERE id = ANY(:ids)")
SELECT_WALLETS = text("SELECT id, org, currency FROM wallets WHERE id = ANY(:ids)")

INSERT_BATCH = text("""
    INSERT INTO ingest_batches (source, meter, events) VALUES (:source, :meter, :events) RETURNING id
""")

# In COPY's binary format, whose bytes are those of the column: a uuid is its 16, a timestamp the microseconds since
# 2000, a text its own. Nothing is written or parsed as text on the way.
EVENT_COLUMNS: tuple[tuple[LiteralString, str], ...] = (
    ("id", "bytea"),
    ("grade", "int2"),
    ("batch", "int8"),
    ("producer", "text"),
    ("boot", "text"),
    ("sequence", "int8"),
    ("org", "text"),
    ("project", "text"),
    ("key", "text"),
    ("wallet", "text"),
    ("currency", "text"),
    ("deployment", "text"),
    ("model_requested", "text"),
    ("model_served", "text"),
    ("dialect", "text"),
    ("session", "text"),
    ("task", "text"),
    ("task_attempt", "text"),
    ("received_at", "int8"),
    ("first_token_at", "int8"),
    ("finished_at", "int8"),
    ("ending", "text"),
    ("attempts", "int4"),
    ("tokens_input_uncached", "int8"),
    ("tokens_cache_read", "int8"),
    ("tokens_cache_write", "int8"),
    ("tokens_output_visible", "int8"),
    ("tokens_reasoning", "int8"),
    ("price_book", "text"),
    ("disposition", "text"),
    ("service_tier", "text"),
    ("price_window", "text"),
    ("witnessed", "bool"),
    ("payload", "bytea"),
    ("payload_hash", "bytea"),
)
POSTGRES_EPOCH_US = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
COPY_EVENTS: LiteralString = (
    "COPY usage_events (" + ", ".join([name for name, _ in EVENT_COLUMNS]) + ") FROM STDIN (FORMAT BINARY)"
)

# One look in the index for each id, whatever Postgres believes of the table: before its first ANALYZE it would rather sort
# the whole of it. A request has two grades at most.
WANTED = """
    unnest(CAST(CAST(:ids AS text) AS uuid[])) AS w (id)
    CROSS JOIN LATERAL (SELECT * FROM usage_events u WHERE u.id = w.id ORDER BY u.grade DESC LIMIT {grades}) AS e
"""

SELECT_KNOWN = text(f"SELECT e.id, e.grade, e.payload_hash FROM {WANTED.format(grades=2)}")  # noqa: S608 - a constant

SELECT_STORED = text(f"SELECT e.payload FROM {WANTED.format(grades=1)}")  # noqa: S608 - a constant

INSERT_CONFLICT = text("""
    INSERT INTO usage_conflicts (id, grade, payload_hash, payload, source)
    VALUES (:id, :grade, :payload_hash, CAST(:payload AS jsonb), :source) ON CONFLICT DO NOTHING
""")

INSERT_QUARANTINE = text("""
    INSERT INTO usage_quarantine (sha256, raw, reason, source)
    VALUES (sha256(:raw), :raw, :reason, :source) ON CONFLICT DO NOTHING
""")
