"""Requests beside their engine records, in Postgres. What matches is summed there; only the rest is looked at.

What outside meters report was yielded by no engine of ours, and is held to the other stages alone.
"""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.reconciliation.report import Scope
from headrace_billing.reconciliation.request import Billed, Graces, Tokens, Yielded
from headrace_contracts.engine import EngineEnding
from headrace_contracts.usage import Ending, Grade

STREAMED_ROWS = 500

QUARANTINE_ROWS_MAX = 10_000
"""Quarantined events looked into; beyond that somebody has a larger problem, and the report is red anyway."""


@dataclass(frozen=True, slots=True)
class Request:
    billed: Billed
    records: tuple[Yielded, ...]
    organization: str
    disposition: str
    received_at: datetime


async def matched(session: AsyncSession, scope: Scope) -> tuple[int, Tokens]:
    """How many requests were billed exactly what one engine record says, and their tokens."""
    row = (await session.execute(SELECT_MATCHED, _parameters(scope))).one()
    return int(row.requests), Tokens(int(row.input), int(row.output))


async def unwitnessed(session: AsyncSession, scope: Scope) -> tuple[int, Tokens]:
    """The same of requests to engines that are declared to tell nothing, and told nothing."""
    row = (await session.execute(SELECT_UNWITNESSED, _parameters(scope))).one()
    return int(row.requests), Tokens(int(row.input), int(row.output))


async def unmatched(session: AsyncSession, scope: Scope) -> AsyncIterator[Request]:
    rows = await session.stream(
        SELECT_UNMATCHED, _parameters(scope), execution_options={"yield_per": STREAMED_ROWS}
    )
    async for row in rows.mappings():
        yield _request(row)


async def page(session: AsyncSession, scope: Scope, *, before: UUID | None, limit: int) -> list[Request]:
    """The newest requests first; `before` is the last id of the page before."""
    rows = await session.execute(SELECT_PAGE, {**_parameters(scope), "before": before, "limit": limit})
    return [_request(row) for row in rows.mappings()]


async def doubled(session: AsyncSession, scope: Scope) -> list[str]:
    """Requests that count more than once. The primary key forbids it, and this looks all the same."""
    rows = await session.execute(SELECT_DOUBLED, _parameters(scope))
    return [str(request) for request in rows.scalars()]


@dataclass(frozen=True, slots=True)
class Orphan:
    """An engine request for which there is no event."""

    replica: str
    attempt: str
    deployment: str
    ending: EngineEnding
    tokens: Tokens


async def orphans(
    session: AsyncSession, scope: Scope, *, now: datetime, graces: Graces
) -> AsyncIterator[Orphan]:
    """Those that are lost: of others the event may be on its way, or the request still be running.

    An engine does not know for whom it works: an orphan may be anybody's who used its deployment in that time.
    """
    rows = await session.stream(
        SELECT_ORPHANS,
        {
            **_parameters(scope),
            "ended_before": now - graces.event,
            "started_before": now - graces.running,
        },
        execution_options={"yield_per": STREAMED_ROWS},
    )
    async for row in rows:
        yield Orphan(
            row.replica,
            row.attempt,
            row.deployment,
            EngineEnding(row.ending),
            Tokens(int(row.prompt), int(row.output)),
        )


async def unbilled(session: AsyncSession, scope: Scope) -> tuple[Tokens, Tokens]:
    """Tokens of probes, and of requests that were declared lost. They are nobody's, so only all of them are asked."""
    assert scope.organization is None, "probes belong to no organisation"
    row = (await session.execute(SELECT_UNBILLED, {"start": scope.start, "end": scope.end})).one()
    return (
        Tokens(int(row.probe_input), int(row.probe_output)),
        Tokens(int(row.lost_input), int(row.lost_output)),
    )


async def conflicts(session: AsyncSession, scope: Scope) -> list[str]:
    rows = await session.execute(SELECT_CONFLICTS, _parameters(scope))
    return [str(request) for request in rows.scalars()]


@dataclass(frozen=True, slots=True)
class Gap:
    """Of one source of an outside meter."""

    meter: str
    source: str
    since: datetime
    first: int
    missing: int


async def gaps(session: AsyncSession, scope: Scope) -> list[Gap]:
    """Of the meters that report for the organisation: its own, and those that have reported usage of it in that time."""
    rows = await session.execute(SELECT_GAPS, _parameters(scope))
    return [
        Gap(row.meter, row.source, row.gap_since, int(row.contiguous) + 1, int(row.missing)) for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Quarantined:
    id: str
    reason: str
    organization: str | None
    """Whom it names; whether that is so nobody has checked."""


async def quarantined(session: AsyncSession, scope: Scope) -> list[Quarantined]:
    """Events that could not be stored and that name the organisation; without one also those that name nobody.

    One that came again and could be stored is no trouble any more, nor one whose engine request was declared lost,
    nor one that two people have settled since.
    """
    found = []
    settled_at = {row.id: row.at for row in await session.execute(SELECT_SETTLED)}
    rows = await session.execute(SELECT_QUARANTINE, {"start": scope.start, "limit": QUARANTINE_ROWS_MAX})
    for row in rows:
        remains = _remains(bytes(row.raw))
        name, org = str(remains.get("id", row.digest)), remains.get("org")
        if scope.organization in (None, org) and not (
            name in settled_at and settled_at[name] >= row.stored_at
        ):
            found.append(Quarantined(name, row.reason, org if isinstance(org, str) else None))
    resolved = await session.execute(SELECT_RESOLVED, {"ids": [one.id for one in found]})
    settled = {str(request) for request in resolved.scalars()}
    return [one for one in found if one.id not in settled]


def _remains(raw: bytes) -> dict[str, Any]:
    try:
        remains = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return remains if isinstance(remains, dict) else {}


def _parameters(scope: Scope) -> dict[str, Any]:
    return {"org": scope.organization, "start": scope.start, "end": scope.end}


def _request(row: RowMapping) -> Request:
    return Request(
        billed=Billed(
            request_id=str(row["id"]),
            grade=Grade(row["grade"]),
            ending=Ending(row["ending"]),
            attempts=row["attempts"],
            tokens=Tokens(row["billed_input"], row["billed_output"]),
            finished_at=row["finished_at"],
            witnessed=row["witnessed"],
        ),
        records=tuple(
            Yielded(
                replica=record["replica"],
                attempt=_number(record["attempt"]),
                ending=EngineEnding(record["ending"]),
                tokens=Tokens(record["prompt"], record["output"]),
            )
            for record in row["records"]
        ),
        organization=row["org"],
        disposition=row["disposition"],
        received_at=row["received_at"],
    )


def _number(attempt: str) -> int:
    """The n of `<request id>.<n>`; -1 for what is no attempt of ours."""
    number = attempt.rpartition(".")[2]
    return int(number) if number.isdecimal() and len(number) < 9 else -1


RECORDS = """
    CROSS JOIN LATERAL (
      SELECT count(*) AS records, coalesce(sum(r.prompt), 0) AS prompt, coalesce(sum(r.output), 0) AS output,
             coalesce(bool_and(r.ending <> 'started'
                               AND r.attempt = e.id::text || '.' || e.attempts::text), false) AS told
      FROM engine_records r WHERE r.request_id = e.id AND NOT r.probe
    ) AS g
"""
BESIDE = f"""
    FROM usage_effective e {RECORDS}
    WHERE (CAST(:org AS text) IS NULL OR e.org = :org) AND e.received_at >= :start AND e.received_at < :end
      AND e.dialect <> 'outside'
"""
BILLED_INPUT = "(e.tokens_input_uncached + e.tokens_cache_read + e.tokens_cache_write)"
BILLED_OUTPUT = "(e.tokens_output_visible + e.tokens_reasoning)"

# The one case that needs no name: a final event, one record that says how it ended, and the same counts.
MATCHED = f"""
    (e.grade = 1 AND g.records = 1 AND g.told AND g.prompt = {BILLED_INPUT} AND g.output = {BILLED_OUTPUT})
"""

UNWITNESSED = f"(g.records = 0 AND {BILLED_INPUT} + {BILLED_OUTPUT} > 0 AND NOT e.witnessed)"

COLUMNS = f"""
    e.id, e.org, e.grade, e.ending, e.attempts, e.disposition, e.received_at, e.finished_at,
    e.witnessed,
    {BILLED_INPUT} AS billed_input, {BILLED_OUTPUT} AS billed_output,
    coalesce((SELECT jsonb_agg(jsonb_build_object('replica', r.replica, 'attempt', r.attempt, 'ending', r.ending,
                                                  'prompt', r.prompt, 'output', r.output))
              FROM engine_records r WHERE r.request_id = e.id AND NOT r.probe), '[]') AS records
"""

SELECT_MATCHED = text(f"""
    SELECT count(*) AS requests, coalesce(sum(g.prompt), 0) AS input, coalesce(sum(g.output), 0) AS output
    {BESIDE} AND {MATCHED}
""")

SELECT_UNWITNESSED = text(f"""
    SELECT count(*) AS requests, coalesce(sum({BILLED_INPUT}), 0) AS input,
           coalesce(sum({BILLED_OUTPUT}), 0) AS output
    {BESIDE} AND {UNWITNESSED}
""")

SELECT_UNMATCHED = text(f"SELECT {COLUMNS} {BESIDE} AND NOT {MATCHED} AND NOT {UNWITNESSED} ORDER BY e.id")

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM usage_effective e
    WHERE (CAST(:org AS text) IS NULL OR e.org = :org) AND e.received_at >= :start AND e.received_at < :end
      AND e.dialect <> 'outside'
      AND (CAST(:before AS uuid) IS NULL OR e.id < CAST(:before AS uuid))
    ORDER BY e.id DESC LIMIT :limit
""")

SELECT_DOUBLED = text("""
    SELECT id FROM usage_effective
    WHERE (CAST(:org AS text) IS NULL OR org = :org) AND received_at >= :start AND received_at < :end
    GROUP BY id HAVING count(*) > 1
""")

SELECT_ORPHANS = text("""
    SELECT r.replica, r.attempt, r.deployment, r.ending, r.prompt, r.output
    FROM engine_records r
    WHERE NOT r.probe AND r.started_at >= :start AND r.started_at < :end
      AND CASE r.ending WHEN 'started' THEN r.started_at <= :started_before
                        ELSE coalesce(r.finished_at, r.started_at) <= :ended_before END
      AND NOT EXISTS (SELECT 1 FROM usage_events e WHERE e.id = r.request_id)
      AND NOT EXISTS (SELECT 1 FROM declared_losses d WHERE d.replica = r.replica AND d.attempt = r.attempt)
      AND (CAST(:org AS text) IS NULL OR r.deployment IN (
             SELECT e.deployment FROM usage_events e
             WHERE e.org = :org AND e.received_at >= :start AND e.received_at < :end))
    ORDER BY r.started_at
""")

SELECT_UNBILLED = text("""
    SELECT coalesce(sum(r.prompt) FILTER (WHERE r.probe), 0) AS probe_input,
           coalesce(sum(r.output) FILTER (WHERE r.probe), 0) AS probe_output,
           coalesce(sum(r.prompt) FILTER (WHERE d.attempt IS NOT NULL), 0) AS lost_input,
           coalesce(sum(r.output) FILTER (WHERE d.attempt IS NOT NULL), 0) AS lost_output
    FROM engine_records r
    LEFT JOIN declared_losses d ON d.replica = r.replica AND d.attempt = r.attempt
      AND NOT EXISTS (SELECT 1 FROM usage_events e WHERE e.id = r.request_id)
    WHERE r.started_at >= :start AND r.started_at < :end
""")

SELECT_CONFLICTS = text("""
    SELECT DISTINCT c.id FROM usage_conflicts c JOIN usage_effective e ON e.id = c.id
    WHERE (CAST(:org AS text) IS NULL OR e.org = :org) AND e.received_at >= :start AND e.received_at < :end
      AND NOT EXISTS (SELECT 1 FROM declared_settled s
                      WHERE s.kind = 'conflict' AND s.id = c.id::text AND s.declared_at >= c.stored_at)
""")

SELECT_GAPS = text("""
    SELECT m.meter, m.source, m.gap_since, m.contiguous,
           (SELECT (m.above -> -1 ->> 1)::bigint - m.contiguous - sum((r ->> 1)::bigint - (r ->> 0)::bigint + 1)
            FROM jsonb_array_elements(m.above) AS r) AS missing
    FROM meter_sequences m JOIN meters t ON t.id = m.meter
    WHERE m.gap_since IS NOT NULL AND (
      CAST(:org AS text) IS NULL OR t.org = :org
      OR (t.org IS NULL AND EXISTS (
            SELECT 1 FROM usage_events e WHERE e.org = :org AND e.dialect = 'outside' AND e.producer = m.meter
              AND e.received_at >= :start AND e.received_at < :end)))
    ORDER BY m.meter, m.source
""")

SELECT_QUARANTINE = text("""
    SELECT encode(sha256, 'hex') AS digest, raw, reason, stored_at FROM usage_quarantine
    WHERE stored_at >= :start ORDER BY stored_at LIMIT :limit
""")

SELECT_SETTLED = text("""
    SELECT id, max(declared_at) AS at FROM declared_settled WHERE kind = 'quarantined' GROUP BY id
""")

SELECT_RESOLVED = text("""
    SELECT e.id::text FROM usage_events e
    WHERE e.id = ANY(SELECT q::uuid FROM unnest(CAST(:ids AS text[])) AS q WHERE pg_input_is_valid(q, 'uuid'))
    UNION
    SELECT r.request_id::text FROM declared_losses d JOIN engine_records r USING (replica, attempt)
    WHERE r.request_id::text = ANY(CAST(:ids AS text[]))
""")
