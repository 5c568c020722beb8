"""Usage in Postgres: events as they came, those kept aside, rollups and rated quantities.

Only an ingest transaction writes here, and there is one at a time (`batch.commit` holds the lock), so what is read
is what is written against.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import Usage, fingerprint, instant
from headrace_billing.rating.book import PriceBook
from headrace_contracts.usage import (
    Grade,
    TokenCounts,
    UsageEvent,
    decode_event,
    encode_event,
)

Identity = tuple[UUID, Grade]


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
        if self.keys.get(event.key) != event.project:
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


async def begin_batch(session: AsyncSession, *, source: str, events: int) -> int:
    batch: int = (await session.execute(INSERT_BATCH, {"source": source, "events": events})).scalar_one()
    return batch


async def insert_events(
    session: AsyncSession, usages: Sequence[Usage], books: Mapping[str, PriceBook], *, batch: int
) -> set[Identity]:
    """Those that were not stored before."""
    rows = await session.execute(
        INSERT_EVENTS,
        {"batch": batch, "rows": as_json([_event_row(u, books[u.event.price_book]) for u in usages])},
    )
    return {(row.id, Grade(row.grade)) for row in rows}


async def stored_hashes(session: AsyncSession, ids: Iterable[UUID]) -> dict[Identity, bytes]:
    rows = await session.execute(SELECT_HASHES, {"ids": sorted(set(ids))})
    return {(row.id, Grade(row.grade)): bytes(row.payload_hash) for row in rows}


async def stored_before(session: AsyncSession, ids: Iterable[UUID], *, batch: int) -> list[Usage]:
    """Events of these requests that an earlier batch stored."""
    rows = await session.execute(SELECT_EARLIER, {"ids": sorted(set(ids)), "batch": batch})
    events = [(row.id, decode_event(row.payload.encode())) for row in rows]
    return [
        Usage(event, request, instant(event.received_at_us), fingerprint(event)) for request, event in events
    ]


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


async def quarantine(session: AsyncSession, raw: bytes, *, reason: str, source: str) -> None:
    await session.execute(INSERT_QUARANTINE, {"raw": raw, "reason": reason, "source": source})


def _event_row(usage: Usage, book: PriceBook) -> dict[str, Any]:
    event = usage.event
    return {
        "id": usage.id,
        "grade": event.grade,
        "producer": event.producer,
        "boot": event.boot,
        "sequence": event.sequence,
        "org": event.org,
        "project": event.project,
        "key": event.key,
        "wallet": event.wallet,
        "currency": event.currency,
        "deployment": event.deployment,
        "model_requested": event.model_requested,
        "model_served": event.model_served,
        "dialect": event.dialect,
        "session": event.session,
        "task": event.task,
        "task_attempt": event.task_attempt,
        "received_at": usage.received_at,
        "first_token_at": None if event.first_token_at_us is None else instant(event.first_token_at_us),
        "finished_at": instant(event.finished_at_us),
        "ending": event.ending,
        "attempts": event.attempts,
        **token_columns(event.tokens),
        "price_book": event.price_book,
        "disposition": event.disposition,
        "service_tier": event.service_tier,
        "price_window": book.window_of(event.model_served, usage.received_at),
        "payload": msgspec.Raw(encode_event(event)),
        "payload_hash": usage.payload_hash.hex(),
    }


def token_columns(tokens: TokenCounts) -> dict[str, int]:
    return {f"tokens_{name}": getattr(tokens, name) for name in TokenCounts.__struct_fields__}


def as_json(rows: list[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()


SELECT_PROJECTS = text("SELECT id, org FROM projects WHERE id = ANY(:ids)")
SELECT_KEYS = text("SELECT id, project FROM api_keys WHERE id = ANY(:ids)")
SELECT_WALLETS = text("SELECT id, org, currency FROM wallets WHERE id = ANY(:ids)")

INSERT_BATCH = text("INSERT INTO ingest_batches (source, events) VALUES (:source, :events) RETURNING id")

INSERT_EVENTS = text("""
    INSERT INTO usage_events (
      id, grade, batch, producer, boot, sequence, org, project, key, wallet, currency, deployment,
      model_requested, model_served, dialect, session, task, task_attempt, received_at, first_token_at,
      finished_at, ending, attempts, tokens_input_uncached, tokens_cache_read, tokens_cache_write,
      tokens_output_visible, tokens_reasoning, price_book, disposition, service_tier, price_window, payload,
      payload_hash)
    SELECT
      id, grade, :batch, producer, boot, sequence, org, project, key, wallet, currency, deployment,
      model_requested, model_served, dialect, session, task, task_attempt, received_at, first_token_at,
      finished_at, ending, attempts, tokens_input_uncached, tokens_cache_read, tokens_cache_write,
      tokens_output_visible, tokens_reasoning, price_book, disposition, service_tier, price_window, payload,
      decode(payload_hash, 'hex')
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
      id uuid, grade smallint, producer text, boot text, sequence bigint, org text, project text, key text,
      wallet text, currency text, deployment text, model_requested text, model_served text, dialect text,
      session text, task text, task_attempt text, received_at timestamptz, first_token_at timestamptz,
      finished_at timestamptz, ending text, attempts integer, tokens_input_uncached bigint,
      tokens_cache_read bigint, tokens_cache_write bigint, tokens_output_visible bigint,
      tokens_reasoning bigint, price_book text, disposition text, service_tier text, price_window text,
      payload jsonb, payload_hash text)
    ON CONFLICT (id, grade) DO NOTHING
    RETURNING id, grade
""")

SELECT_HASHES = text("SELECT id, grade, payload_hash FROM usage_events WHERE id = ANY(:ids)")

SELECT_EARLIER = text("""
    SELECT id, payload::text AS payload FROM usage_events WHERE id = ANY(:ids) AND batch <> :batch
""")

INSERT_CONFLICT = text("""
    INSERT INTO usage_conflicts (id, grade, payload_hash, payload, source)
    VALUES (:id, :grade, :payload_hash, CAST(:payload AS jsonb), :source) ON CONFLICT DO NOTHING
""")

INSERT_QUARANTINE = text("""
    INSERT INTO usage_quarantine (sha256, raw, reason, source)
    VALUES (sha256(:raw), :raw, :reason, :source) ON CONFLICT DO NOTHING
""")
