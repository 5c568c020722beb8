"""Sessions of a time, the newest first, with what their requests used and how long these took."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_contracts.usage import TokenCounts


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds; null where nothing was measured."""

    p50: int | None
    p95: int | None
    p99: int | None


@dataclass(frozen=True, slots=True)
class Latencies:
    project: str
    session: str
    began_at: datetime
    last_at: datetime
    requests: int
    completed: int
    tokens: TokenCounts
    duration: Percentiles
    first_token: Percentiles


@dataclass(frozen=True, slots=True)
class Asked:
    organization: str | None
    project: str | None
    session: str | None
    start: datetime
    end: datetime


async def sessions(
    session: AsyncSession, asked: Asked, *, after: tuple[datetime, str, str] | None, limit: int
) -> list[Latencies]:
    """`after`: when the last one of the page before was used last, its project and its name."""
    at, project, name = after or (None, None, None)
    rows = await session.execute(
        SELECT_SESSIONS,
        {
            "org": asked.organization,
            "project": asked.project,
            "session": asked.session,
            "start": asked.start,
            "end": asked.end,
            "after_at": at,
            "after_project": project,
            "after_name": name,
            "limit": limit,
        },
    )
    return [
        Latencies(
            project=row.project,
            session=row.session,
            began_at=row.began_at,
            last_at=row.last_at,
            requests=row.requests,
            completed=row.completed,
            tokens=TokenCounts(**{each: int(getattr(row, each)) for each in TokenCounts.__struct_fields__}),
            duration=_percentiles(row.duration_ms),
            first_token=_percentiles(row.first_token_ms),
        )
        for row in rows
    ]


async def charges(
    session: AsyncSession, asked: Asked, found: Sequence[Latencies]
) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    """By project and session: currency, nano-units charged and attos at list price, of the hours in which the time lies."""
    rows = await session.execute(
        SELECT_CHARGES,
        {
            "projects": [each.project for each in found],
            "names": [each.session for each in found],
            "start": asked.start,
            "end": asked.end,
        },
    )
    charged: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for row in rows:
        amounts = (row.currency, int(row.charge_nanos), int(row.list_attos))
        charged.setdefault((row.project, row.session), []).append(amounts)
    return charged


def _percentiles(values: list[float | None] | None) -> Percentiles:
    p50, p95, p99 = (None if value is None else round(value) for value in values or (None, None, None))
    return Percentiles(p50, p95, p99)


SELECT_SESSIONS = text("""
    WITH used AS (
      SELECT e.*,
             extract(epoch FROM e.finished_at - e.received_at) * 1000 AS duration_ms,
             extract(epoch FROM e.first_token_at - e.received_at) * 1000 AS first_token_ms
      FROM usage_effective e
      WHERE e.session IS NOT NULL AND e.received_at >= :start AND e.received_at < :end
        AND (CAST(:org AS text) IS NULL OR e.org = :org)
        AND (CAST(:project AS text) IS NULL OR e.project = :project)
        AND (CAST(:session AS text) IS NULL OR e.session = :session)
    )
    SELECT project, session, min(received_at) AS began_at, max(received_at) AS last_at, count(*) AS requests,
           count(*) FILTER (WHERE ending = 'completed') AS completed,
           sum(tokens_input_uncached) AS input_uncached, sum(tokens_cache_read) AS cache_read,
           sum(tokens_cache_write) AS cache_write, sum(tokens_output_visible) AS output_visible,
           sum(tokens_reasoning) AS reasoning,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY CAST(duration_ms AS float8))
             FILTER (WHERE ending = 'completed') AS duration_ms,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY CAST(first_token_ms AS float8))
             FILTER (WHERE first_token_ms IS NOT NULL) AS first_token_ms
    FROM used GROUP BY project, session
    HAVING CAST(:after_at AS timestamptz) IS NULL
      OR (max(received_at), project, session)
        < (CAST(:after_at AS timestamptz), CAST(:after_project AS text), CAST(:after_name AS text))
    ORDER BY max(received_at) DESC, project DESC, session DESC LIMIT :limit
""")

SELECT_CHARGES = text("""
    SELECT project, session, currency, sum(charge_nanos) AS charge_nanos, sum(list_attos) AS list_attos
    FROM usage_rollups_by_session
    JOIN unnest(CAST(:projects AS text[]), CAST(:names AS text[])) AS found (project, session)
      USING (project, session)
    WHERE hour >= :start AND hour < :end
    GROUP BY project, session, currency ORDER BY project, session, currency
""")
