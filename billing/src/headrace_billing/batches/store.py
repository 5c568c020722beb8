"""Batches and their lines in Postgres."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches.batch import OPEN, OPEN_MAX, Batch, BatchStatus, TooManyBatches
from headrace_billing.batches.line import Line, LineState, Reply

ROWS = 500
"""Inserted or read at once."""


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


async def page(session: AsyncSession, *, project: str, after: str, limit: int) -> list[Batch]:
    """Newest first, as OpenAI's list is; `after` is the last of the page before."""
    rows = await session.execute(SELECT_PAGE, {"project": project, "after": after, "limit": limit})
    return [_batch(row) for row in rows.mappings()]


async def next_with(session: AsyncSession, *statuses: BatchStatus) -> Batch | None:
    """One that nobody else works at, for as long as the transaction lasts."""
    row = (await session.execute(SELECT_NEXT, {"statuses": list(statuses)})).mappings().first()
    return None if row is None else _batch(row)


async def ready_to_end(session: AsyncSession, *, at: datetime) -> Batch | None:
    """One that has no request under way, and none to come or no time for it."""
    row = (await session.execute(SELECT_ENDING, {"at": at})).mappings().first()
    return None if row is None else _batch(row)


async def add_lines(session: AsyncSession, batch: str, lines: Sequence[Line], *, at: datetime) -> None:
    await session.execute(
        INSERT_LINE,
        [
            {"batch": batch, "number": line.number, "custom_id": line.custom_id, "body": line.body, "at": at}
            for line in lines
        ],
    )


async def refuse(session: AsyncSession, batch: str, errors: Sequence[dict[str, Any]], *, at: datetime) -> None:
    await session.execute(DELETE_LINES, {"id": batch})
    await session.execute(SET_FAILED, {"id": batch, "errors": json.dumps(list(errors)), "at": at})


async def begin(session: AsyncSession, batch: str, *, total: int, at: datetime) -> None:
    await session.execute(SET_BEGUN, {"id": batch, "total": total, "at": at})


async def cancel(session: AsyncSession, batch: str, *, at: datetime) -> None:
    await session.execute(SET_CANCELLING, {"id": batch, "at": at})


@dataclass(frozen=True, slots=True)
class Due:
    """A line that whoever claimed it sends now."""

    batch: str
    number: int
    endpoint: str
    body: bytes
    tries: int
    key_sha256: str
    """Of the secret of the key that pays."""


async def claim(session: AsyncSession, *, limit: int, at: datetime, sent_for: timedelta) -> list[Due]:
    """First the first lines of every batch, then the second, so that a long one keeps no short one waiting."""
    rows = await session.execute(CLAIM, {"limit": limit, "at": at, "until": at + sent_for})
    return [Due(**row) for row in rows.mappings()]


async def settle(session: AsyncSession, due: Due, state: LineState, reply: Reply) -> bool:
    """False where somebody else did it."""
    result = await session.execute(
        SETTLE_LINE,
        {
            "batch": due.batch,
            "number": due.number,
            "state": state,
            "status": reply.status,
            "request": reply.request,
            "answer": reply.body,
        },
    )
    return result.first() is not None


async def postpone(session: AsyncSession, due: Due, *, until: datetime, counts: bool) -> None:
    """`counts`: whether it was a try."""
    await session.execute(
        POSTPONE_LINE, {"batch": due.batch, "number": due.number, "until": until, "tries": int(counts)}
    )


async def results(session: AsyncSession, batch: str, *, answered: bool) -> AsyncIterator[RowMapping]:
    """In the order of the file."""
    number = 0
    while True:
        rows = await session.execute(
            SELECT_RESULTS, {"batch": batch, "after": number, "limit": ROWS, "answered": answered}
        )
        found = rows.mappings().all()
        for row in found:
            yield row
        if len(found) < ROWS:
            return
        number = found[-1]["number"]


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
    await session.execute(DELETE_LINES, {"id": batch})


def _batch(row: RowMapping) -> Batch:
    return Batch(**{**row, "status": BatchStatus(row["status"])})


COLUMNS = """
    id, project, key, endpoint, input_file, metadata, status, errors, output_file, error_file, total, completed, failed,
    created_at, expires_at, in_progress_at, cancelling_at, ended_at
"""
OPEN_SQL = ", ".join(f"'{status}'" for status in OPEN)

LOCK_PROJECT = text("SELECT pg_advisory_xact_lock(hashtextextended('batches:' || :project, 0))")

COUNT_OPEN = text(f"SELECT count(*) FROM batches WHERE project = :project AND status IN ({OPEN_SQL})")  # noqa: S608

INSERT = text("""
    INSERT INTO batches (id, project, key, endpoint, input_file, metadata, status, created_at, expires_at)
    VALUES (:id, :project, :key, :endpoint, :input_file, CAST(:metadata AS jsonb), :status, :created_at, :expires_at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM batches WHERE id = :id AND project = :project")  # noqa: S608
SELECT_LOCKED = text(f"SELECT {COLUMNS} FROM batches WHERE id = :id AND project = :project FOR UPDATE")  # noqa: S608

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM batches WHERE project = :project AND (:after = '' OR id < :after) ORDER BY id DESC LIMIT :limit
""")  # noqa: S608

SELECT_NEXT = text(f"""
    SELECT {COLUMNS} FROM batches WHERE status = ANY(:statuses) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
""")  # noqa: S608

SELECT_ENDING = text(f"""
    SELECT {COLUMNS} FROM batches b
    WHERE status IN ('in_progress', 'cancelling')
      AND NOT EXISTS (
        SELECT FROM batch_lines l WHERE l.batch = b.id
          AND (l.state = 'sent' AND l.due_at > :at
            OR l.state IN ('waiting', 'sent') AND b.status = 'in_progress' AND b.expires_at > :at))
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
""")  # noqa: S608

INSERT_LINE = text("""
    INSERT INTO batch_lines (batch, number, custom_id, body, due_at) VALUES (:batch, :number, :custom_id, :body, :at)
""")

DELETE_LINES = text("DELETE FROM batch_lines WHERE batch = :id")

SET_FAILED = text("""
    UPDATE batches SET status = 'failed', errors = CAST(:errors AS jsonb), ended_at = :at WHERE id = :id
""")

SET_BEGUN = text("UPDATE batches SET status = 'in_progress', total = :total, in_progress_at = :at WHERE id = :id")

SET_CANCELLING = text("UPDATE batches SET status = 'cancelling', cancelling_at = :at WHERE id = :id")

# One whose time is over counts as forgotten by whoever sent it: the same Idempotency-Key makes that safe.
CLAIM = text("""
    WITH due AS (
      SELECT l.batch, l.number, b.endpoint, k.secret_sha256
      FROM batch_lines l JOIN batches b ON b.id = l.batch JOIN api_keys k ON k.id = b.key
      WHERE l.state IN ('waiting', 'sent') AND l.due_at <= :at AND b.status = 'in_progress' AND b.expires_at > :at
      ORDER BY l.number, l.due_at LIMIT :limit FOR UPDATE OF l SKIP LOCKED
    )
    UPDATE batch_lines l SET state = 'sent', due_at = :until FROM due
    WHERE l.batch = due.batch AND l.number = due.number
    RETURNING l.batch, l.number, due.endpoint, l.body, l.tries, due.secret_sha256 AS key_sha256
""")

SETTLE_LINE = text("""
    WITH settled AS (
      UPDATE batch_lines SET state = :state, status = :status, request = :request, answer = :answer
      WHERE batch = :batch AND number = :number AND state = 'sent' RETURNING batch
    )
    UPDATE batches SET
      completed = completed + CASE WHEN CAST(:state AS text) = 'answered' THEN 1 ELSE 0 END,
      failed = failed + CASE WHEN CAST(:state AS text) = 'failed' THEN 1 ELSE 0 END
    WHERE id IN (SELECT batch FROM settled) RETURNING id
""")

POSTPONE_LINE = text("""
    UPDATE batch_lines SET state = 'waiting', due_at = :until, tries = tries + :tries
    WHERE batch = :batch AND number = :number AND state = 'sent'
""")

SELECT_RESULTS = text("""
    SELECT batch, number, custom_id, status, request, answer FROM batch_lines
    WHERE batch = :batch AND number > :after AND (state = 'answered') = :answered ORDER BY number LIMIT :limit
""")

SET_ENDED = text("""
    UPDATE batches SET status = :status, output_file = :output_file, error_file = :error_file, ended_at = :at,
      failed = total - completed
    WHERE id = :id
""")
