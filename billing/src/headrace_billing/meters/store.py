"""Meters, backfills and declared gaps in Postgres, and whom readings are for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.meters.backfill import Backfill
from headrace_billing.meters.meter import Meter, shown_prefix, token_sha256
from headrace_contracts.usage import Disposition


async def add(session: AsyncSession, meter: Meter, token: str) -> None:
    await session.execute(
        INSERT,
        {
            "id": meter.id,
            "name": meter.name,
            "org": meter.organization,
            "token_sha256": token_sha256(token),
            "prefix": meter.prefix,
            "created_at": meter.created_at,
        },
    )


async def of_token(session: AsyncSession, token: str) -> Meter | None:
    """Null for a token that is unknown, replaced or revoked."""
    row = (await session.execute(SELECT_OF_TOKEN, {"sha256": token_sha256(token)})).mappings().first()
    return None if row is None else Meter(**row)


async def read(session: AsyncSession, meter_id: str) -> Meter:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT, {"id": meter_id})).mappings().first()
    if row is None:
        raise NotFound("meter", meter_id)
    return Meter(**row)


async def page(session: AsyncSession, *, after: str, limit: int) -> list[Meter]:
    rows = await session.execute(SELECT_PAGE, {"after": after, "limit": limit})
    return [Meter(**row) for row in rows.mappings()]


async def rotate(session: AsyncSession, meter_id: str, token: str) -> Meter:
    """The old token ends at once. Raises `NotFound`, for a revoked meter too: it gets no new token."""
    parameters = {"id": meter_id, "sha256": token_sha256(token), "prefix": shown_prefix(token)}
    row = (await session.execute(ROTATE, parameters)).mappings().first()
    if row is None:
        raise NotFound("meter", meter_id)
    return Meter(**row)


async def revoke(session: AsyncSession, meter_id: str, *, at: datetime) -> Meter:
    """Raises `NotFound`."""
    row = (await session.execute(REVOKE, {"id": meter_id, "at": at})).mappings().first()
    if row is None:
        raise NotFound("meter", meter_id)
    return Meter(**row)


@dataclass(frozen=True, slots=True)
class Source:
    """How much of one source's numbers has come."""

    source: str
    contiguous: int
    above: Sequence[tuple[int, int]]
    gap_since: datetime | None

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Ranges that have not come although later numbers have; first and last, both inclusive."""
        ends = [self.contiguous, *(last for _, last in self.above)]
        return [(end + 1, first - 1) for end, (first, _) in zip(ends, self.above, strict=False)]


async def sources(session: AsyncSession, meter_id: str) -> list[Source]:
    rows = await session.execute(SELECT_SOURCES, {"meter": meter_id})
    return [
        Source(row.source, int(row.contiguous), [(first, last) for first, last in row.above], row.gap_since)
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class ProjectBooks:
    """Where a project's usage is booked."""

    organization: str
    wallet: str
    currency: str
    disposition: Disposition


async def project_books(
    session: AsyncSession, projects: Iterable[str], *, organization: str | None
) -> dict[str, ProjectBooks]:
    """Those of the projects that exist, and that are the organisation's if one is named."""
    rows = await session.execute(SELECT_PROJECT_BOOKS, {"ids": sorted(set(projects)), "org": organization})
    return {
        row.id: ProjectBooks(row.org, row.wallet, row.currency, Disposition(row.disposition)) for row in rows
    }


async def projects_of_keys(session: AsyncSession, keys: Iterable[str]) -> Mapping[str, str]:
    rows = await session.execute(SELECT_KEYS, {"ids": sorted(set(keys))})
    return {row.id: row.project for row in rows}


async def add_backfill(session: AsyncSession, backfill: Backfill) -> None:
    await session.execute(
        INSERT_BACKFILL,
        {
            "id": backfill.id,
            "meter": backfill.meter,
            "starts_at": backfill.start,
            "ends_at": backfill.end,
            "reason": backfill.reason,
            "requested_by": backfill.requested_by,
            "approved_by": backfill.approved_by,
            "opened_at": backfill.opened_at,
            "closes_at": backfill.closes_at,
        },
    )


async def open_backfills(session: AsyncSession, meter_id: str, *, at: datetime) -> list[Backfill]:
    rows = await session.execute(SELECT_OPEN_BACKFILLS, {"meter": meter_id, "at": at})
    return [_backfill(row) for row in rows.mappings()]


async def backfills(session: AsyncSession, *, after: str, limit: int) -> list[Backfill]:
    rows = await session.execute(SELECT_BACKFILLS, {"after": after, "limit": limit})
    return [_backfill(row) for row in rows.mappings()]


async def backfill(session: AsyncSession, backfill_id: str) -> Backfill:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_BACKFILL, {"id": backfill_id})).mappings().first()
    if row is None:
        raise NotFound("backfill", backfill_id)
    return _backfill(row)


@dataclass(frozen=True, slots=True)
class Filled:
    """What came by a backfill, and to whom it belongs."""

    organization: str
    events: int
    tokens: int


async def filled(session: AsyncSession, backfill: Backfill, *, late_days: int) -> list[Filled]:
    rows = await session.execute(
        SELECT_FILLED,
        {
            "meter": backfill.meter,
            "start": backfill.start,
            "end": backfill.end,
            "opened_at": backfill.opened_at,
            "closes_at": backfill.closes_at,
            "late_days": late_days,
        },
    )
    return [Filled(row.org, int(row.events), int(row.tokens)) for row in rows]


def _backfill(row: RowMapping) -> Backfill:
    return Backfill(
        id=row["id"],
        meter=row["meter"],
        start=row["starts_at"],
        end=row["ends_at"],
        reason=row["reason"],
        requested_by=row["requested_by"],
        approved_by=row["approved_by"],
        opened_at=row["opened_at"],
        closes_at=row["closes_at"],
    )


COLUMNS = "id, name, org AS organization, prefix, created_at, revoked_at"

INSERT = text("""
    INSERT INTO meters (id, name, org, token_sha256, prefix, created_at)
    VALUES (:id, :name, :org, :token_sha256, :prefix, :created_at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM meters WHERE id = :id")  # noqa: S608 - a constant

SELECT_OF_TOKEN = text(f"""
    SELECT {COLUMNS} FROM meters WHERE token_sha256 = :sha256 AND revoked_at IS NULL
""")  # noqa: S608 - a constant

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM meters WHERE id > :after ORDER BY id LIMIT :limit
""")  # noqa: S608 - a constant

ROTATE = text(f"""
    UPDATE meters SET token_sha256 = :sha256, prefix = :prefix WHERE id = :id AND revoked_at IS NULL
    RETURNING {COLUMNS}
""")  # noqa: S608 - a constant

REVOKE = text(f"""
    UPDATE meters SET revoked_at = coalesce(revoked_at, :at) WHERE id = :id RETURNING {COLUMNS}
""")  # noqa: S608 - a constant

SELECT_SOURCES = text("""
    SELECT source, contiguous, above, gap_since FROM meter_sequences WHERE meter = :meter ORDER BY source
""")

SELECT_PROJECT_BOOKS = text("""
    SELECT id, org, wallet, currency, disposition FROM projects
    WHERE id = ANY(:ids) AND (CAST(:org AS text) IS NULL OR org = :org)
""")

SELECT_KEYS = text("SELECT id, project FROM api_keys WHERE id = ANY(:ids)")

INSERT_BACKFILL = text("""
    INSERT INTO backfills (id, meter, starts_at, ends_at, reason, requested_by, approved_by, opened_at, closes_at)
    VALUES (:id, :meter, :starts_at, :ends_at, :reason, :requested_by, :approved_by, :opened_at, :closes_at)
""")

SELECT_OPEN_BACKFILLS = text("""
    SELECT * FROM backfills WHERE meter = :meter AND opened_at <= :at AND closes_at > :at
""")

SELECT_BACKFILLS = text("SELECT * FROM backfills WHERE id > :after ORDER BY id LIMIT :limit")

SELECT_BACKFILL = text("SELECT * FROM backfills WHERE id = :id")

# What else came meanwhile was not late, or came by another agreement.
SELECT_FILLED = text("""
    SELECT e.org, count(*) AS events,
           sum(e.tokens_input_uncached + e.tokens_cache_read + e.tokens_cache_write
               + e.tokens_output_visible + e.tokens_reasoning) AS tokens
    FROM ingest_batches b JOIN usage_events e ON e.batch = b.id AND e.dialect = 'outside'
    WHERE b.meter = :meter AND b.committed_at >= :opened_at AND b.committed_at < :closes_at
      AND e.received_at >= :start AND e.received_at < :end
      AND e.received_at < b.committed_at - make_interval(days => :late_days)
    GROUP BY e.org ORDER BY e.org
""")
