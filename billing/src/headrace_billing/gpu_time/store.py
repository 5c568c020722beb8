"""GPU time in Postgres. A batch is one transaction; a pod and hour are written once for each grade."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.gpu_time.arrival import Arrival, Identity
from headrace_billing.ingest.arrival import instant
from headrace_billing.usage.query import cursor_after, read_cursor
from headrace_billing.usage.store import instant_of
from headrace_contracts.gpu_time import HOUR_US, GpuTimeEvent, encode_gpu_time
from headrace_contracts.usage import Grade


async def known_organizations(session: AsyncSession, ids: set[str]) -> set[str]:
    rows = await session.execute(SELECT_ORGANIZATIONS, {"ids": sorted(ids)})
    return {row.id for row in rows}


async def insert(session: AsyncSession, arrivals: Sequence[Arrival]) -> set[Identity]:
    """Those that were not stored before. No two of them have one identity."""
    rows = [_row(arrival) for arrival in sorted(arrivals, key=lambda arrival: arrival.identity)]
    inserted = await session.execute(INSERT, {"rows": msgspec.json.encode(rows).decode()})
    return {_identity(row) for row in inserted}


async def stored_hashes(session: AsyncSession, pods: set[str]) -> Mapping[Identity, bytes]:
    rows = await session.execute(SELECT_HASHES, {"pods": sorted(pods)})
    return {_identity(row): bytes(row.payload_hash) for row in rows}


async def keep_conflict(session: AsyncSession, arrival: Arrival) -> None:
    event = arrival.event
    assert event is not None, arrival.refusal
    await session.execute(
        INSERT_CONFLICT,
        {
            "pod": event.pod,
            "hour": instant(event.hour_us),
            "grade": event.grade,
            "payload_hash": arrival.payload_hash,
            "payload": encode_gpu_time(event).decode(),
        },
    )


class HourDocument(TypedDict):
    hour: str
    organization: str | None
    deployment: str
    cluster: str
    model: str
    profile: str
    pods: int
    gpu_ms: int
    gpu_ms_estimated: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Half-open; None for any."""

    org: str | None
    deployment: str | None
    start: datetime
    end: datetime

    @property
    def fingerprint(self) -> str:
        """Changes with everything but the page."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Page:
    items: list[HourDocument]
    cursor: str | None
    """Null on the last page."""


async def hours(session: AsyncSession, scope: Scope, *, after: str | None, limit: int) -> Page:
    """Sums by hour and deployment, oldest first. Raises `CursorInvalid`."""
    parameters: dict[str, Any] = {
        "org": scope.org,
        "deployment": scope.deployment,
        "start": scope.start,
        "end": scope.end,
        "limit": limit + 1,
    }
    if after is not None:
        hour, *place = read_cursor(scope.fingerprint, after, values=1 + len(PLACE))
        parameters["start"] = max(scope.start, instant_of(hour, before=scope.end))
        parameters |= {f"after_{name}": value for name, value in zip(PLACE, place, strict=True)}
    rows = (await session.execute(SELECT_HOURS if after is None else SELECT_HOURS_AFTER, parameters)).all()
    items: list[HourDocument] = [
        {
            "hour": row.hour.isoformat(),
            "organization": row.org,
            "deployment": row.deployment,
            "cluster": row.cluster,
            "model": row.model,
            "profile": row.profile,
            "pods": row.pods,
            "gpu_ms": int(row.gpu_ms),
            "gpu_ms_estimated": int(row.gpu_ms_estimated),
        }
        for row in rows[:limit]
    ]
    if len(rows) <= limit:
        return Page(items, None)
    last = rows[limit - 1]
    place = [getattr(last, name) or "" for name in PLACE]
    return Page(items, cursor_after(scope.fingerprint, [last.hour.isoformat(), *place]))


def _row(arrival: Arrival) -> dict[str, Any]:
    event: GpuTimeEvent | None = arrival.event
    assert event is not None, arrival.refusal
    return {
        "pod": event.pod,
        "hour": instant(event.hour_us),
        "grade": event.grade,
        "org": event.org,
        "deployment": event.deployment,
        "cluster": event.cluster,
        "model": event.model,
        "profile": event.profile,
        "accelerators": event.accelerators,
        "started_at": instant(event.started_at_us),
        "ended_at": instant(event.ended_at_us),
        "gpu_ms": event.gpu_ms,
        "payload": msgspec.Raw(encode_gpu_time(event)),
        "payload_hash": arrival.payload_hash.hex(),
    }


def _identity(row: Any) -> Identity:
    return row.pod, int(row.hour.timestamp()) // 3600 * HOUR_US, Grade(row.grade)


SELECT_ORGANIZATIONS = text("SELECT id FROM organizations WHERE id = ANY(:ids)")

INSERT = text("""
    INSERT INTO gpu_time_events (
      pod, hour, grade, org, deployment, cluster, model, profile, accelerators, started_at, ended_at, gpu_ms, payload,
      payload_hash)
    SELECT
      pod, hour, grade, org, deployment, cluster, model, profile, accelerators, started_at, ended_at, gpu_ms, payload,
      decode(payload_hash, 'hex')
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
      pod text, hour timestamptz, grade smallint, org text, deployment text, cluster text, model text, profile text,
      accelerators integer, started_at timestamptz, ended_at timestamptz, gpu_ms bigint, payload jsonb,
      payload_hash text)
    ON CONFLICT (pod, hour, grade) DO NOTHING
    RETURNING pod, hour, grade
""")

SELECT_HASHES = text("SELECT pod, hour, grade, payload_hash FROM gpu_time_events WHERE pod = ANY(:pods)")

INSERT_CONFLICT = text("""
    INSERT INTO gpu_time_conflicts (pod, hour, grade, payload_hash, payload)
    VALUES (:pod, :hour, :grade, :payload_hash, CAST(:payload AS jsonb))
    ON CONFLICT DO NOTHING
""")

PLACE = ("org", "deployment", "cluster", "model", "profile")
"""What rows are told apart by within an hour; nobody's organisation comes first."""

_HOURS = """
    SELECT
      hour, org, deployment, cluster, model, profile, count(*) AS pods, sum(gpu_ms) AS gpu_ms,
      coalesce(sum(gpu_ms) FILTER (WHERE grade = 0), 0) AS gpu_ms_estimated
    FROM gpu_time
    WHERE hour >= :start AND hour < :end
      AND (CAST(:org AS text) IS NULL OR org = :org)
      AND (CAST(:deployment AS text) IS NULL OR deployment = :deployment)
      {after}
    GROUP BY hour, org, deployment, cluster, model, profile
    ORDER BY hour, coalesce(org, ''), deployment, cluster, model, profile
    LIMIT :limit
"""
SELECT_HOURS = text(_HOURS.format(after=""))
SELECT_HOURS_AFTER = text(
    _HOURS.format(
        after="""
      AND (hour, coalesce(org, ''), deployment, cluster, model, profile)
        > (:start, :after_org, :after_deployment, :after_cluster, :after_model, :after_profile)"""
    )
)
