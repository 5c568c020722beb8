"""Batches in Postgres; their lines are in `line_store`."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches.batch import OPEN, OPEN_MAX, Batch, BatchStatus, TooManyBatches


async def add(session: AsyncSession, batch: Batch) -> None:
    """Raises `TooManyBatches`."""
    await session.execute(LOCK_PROJECT, {"project": batch.project})
    count = (await session.execute(COUNT_OPEN, {"project": batch.project})).scalar_one()
    if count >= OPEN_MAX:
        raise TooManyBatches
    await session.execute(
        INSERT,
        {
            "id": batch.id,
            "project": batch.project,
            "key": batch.key,
            "endpoint": batch.endpoint,
            "input_file": batch.input_file,
            "metadata": json.dumps(dict(batch.metadata)),
            "status": batch.status,
            "created_at": batch.created_at,
            "expires_at": batch.expires_at,
        },
    )


async def find(session: AsyncSession, batch: str, *, project: str, lock: bool = False) -> Batch | None:
    statement = SELECT_LOCKED if lock else SELECT
    row = (await session.execute(statement, {"id": batch, "project": project})).mappings().first()
    return None if row is None else _batch(row)


async def page(session: AsyncSession, *, project: str, after: str | None, limit: int) -> list[Batch]:
    """Newest first, as OpenAI's list is; `after` is the last of the page before."""
    rows = await session.execute(SELECT_PAGE, {"project": project, "after": after, "limit": limit})
    return [_batch(row) for row in rows.mappings()]


async def next_to_validate(session: AsyncSession) -> tuple[Batch, str] | None:
    """One that nobody else works at, for as long as the transaction lasts, and the hash of its key's secret."""
    row = (await session.execute(SELECT_TO_VALIDATE)).mappings().first()
    if row is None:
        return None
    return _batch({name: value for name, value in row.items() if name != "key_sha256"}), row["key_sha256"]


async def next_to_end(session: AsyncSession, *, at: datetime) -> Batch | None:
    """One that has no request under way, and none to come or no time for it."""
    row = (await session.execute(SELECT_ENDING, {"at": at})).mappings().first()
    return None if row is None else _batch(row)


async def refuse(
    session: AsyncSession, batch: str, errors: Sequence[dict[str, Any]], *, at: datetime
) -> None:
    await session.execute(SET_FAILED, {"id": batch, "errors": json.dumps(list(errors)), "at": at})


async def start(session: AsyncSession, batch: str, *, total: int, at: datetime) -> None:
    await session.execute(SET_STARTED, {"id": batch, "total": total, "at": at})


async def hold_back(session: AsyncSession, batch: str, *, until: datetime) -> None:
    """None of its lines is sent before."""
    await session.execute(HOLD_BACK, {"id": batch, "until": until})


async def cancel(session: AsyncSession, batch: str, *, at: datetime) -> None:
    await session.execute(SET_CANCELLING, {"id": batch, "at": at})


async def finalize(session: AsyncSession, batch: str, *, at: datetime) -> None:
    await session.execute(SET_FINALIZING, {"id": batch, "at": at})


async def end(
    session: AsyncSession,
    batch: str,
    status: BatchStatus,
    *,
    output_file: str | None,
    error_file: str | None,
    at: datetime,
) -> None:
    files = {"output_file": output_file, "error_file": error_file}
    await session.execute(SET_ENDED, {"id": batch, "status": status, "at": at, **files})


def _batch(row: RowMapping | dict[str, Any]) -> Batch:
    return Batch(**{**row, "status": BatchStatus(row["status"])})


NAMES = (
    "id, project, key, endpoint, input_file, metadata, status, errors, output_file, error_file, total, completed, "
    "failed, created_at, expires_at, in_progress_at, finalizing_at, cancelling_at, ended_at"
)
COLUMNS = ", ".join(f"b.{name}" for name in NAMES.split(", "))
OPEN_SQL = ", ".join(f"'{status}'" for status in OPEN)

LOCK_PROJECT = text("SELECT pg_advisory_xact_lock(hashtextextended('batches:' || :project, 0))")

COUNT_OPEN = text(f"SELECT count(*) FROM batches WHERE project = :project AND status IN ({OPEN_SQL})")  # noqa: S608

INSERT = text("""
    INSERT INTO batches
      (id, project, key, endpoint, input_file, metadata, status, created_at, not_before, expires_at)
    VALUES (:id, :project, :key, :endpoint, :input_file, CAST(:metadata AS jsonb), :status, :created_at, :created_at,
            :expires_at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM batches b WHERE id = :id AND project = :project")  # noqa: S608
SELECT_LOCKED = text(f"SELECT {COLUMNS} FROM batches b WHERE id = :id AND project = :project FOR UPDATE")  # noqa: S608

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM batches b
    WHERE project = :project AND (CAST(:after AS text) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit
""")  # noqa: S608

SELECT_TO_VALIDATE = text(f"""
    SELECT {COLUMNS}, k.secret_sha256 AS key_sha256 FROM batches b JOIN api_keys k ON k.id = b.key
    WHERE b.status = 'validating' ORDER BY b.id LIMIT 1 FOR UPDATE OF b SKIP LOCKED
""")  # noqa: S608

SELECT_ENDING = text(f"""
    SELECT {COLUMNS} FROM batches b
    WHERE status IN ('in_progress', 'finalizing', 'cancelling')
      AND NOT EXISTS (
        SELECT FROM batch_lines l WHERE l.batch = b.id
          AND (l.state = 'sent' OR l.state = 'waiting' AND b.status = 'in_progress' AND b.expires_at > :at))
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
""")  # noqa: S608

SET_FAILED = text("""
    UPDATE batches SET status = 'failed', errors = CAST(:errors AS jsonb), ended_at = :at WHERE id = :id
""")

SET_STARTED = text(
    "UPDATE batches SET status = 'in_progress', total = :total, in_progress_at = :at WHERE id = :id"
)

HOLD_BACK = text("UPDATE batches SET not_before = greatest(not_before, :until) WHERE id = :id")

SET_CANCELLING = text("UPDATE batches SET status = 'cancelling', cancelling_at = :at WHERE id = :id")

SET_FINALIZING = text("UPDATE batches SET status = 'finalizing', finalizing_at = :at WHERE id = :id")

SET_ENDED = text("""
    UPDATE batches SET status = :status, output_file = :output_file, error_file = :error_file, ended_at = :at,
      failed = total - completed
    WHERE id = :id
""")
