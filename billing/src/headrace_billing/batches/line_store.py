"""A batch's lines in Postgres: which are due, who has them, how they ended.

What must stay true: a line that was sent is waited for or asked for again before its batch ends, whatever else happens
to the batch; what is settled stays so.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches.line import Line, LineState, NotAnswered
from headrace_billing.batches.reply import Reply
from headrace_billing.database import copy_rows

ROWS = 500
"""Read at once; answers are a few kilobytes each."""

CLAIM_TIME = timedelta(seconds=60)
"""A line under way counts as forgotten then, unless whoever has it says in time that it still does."""


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
    doubt_since: datetime | None
    """Since when it may have been answered; null where it has not been sent, or is known to have come to nothing."""


async def add(session: AsyncSession, batch: str, lines: Sequence[Line], *, at: datetime) -> None:
    await copy_rows(
        session,
        "COPY batch_lines (batch, number, custom_id, body, due_at) FROM STDIN",
        [(batch, line.number, line.custom_id, line.body, at) for line in lines],
    )


async def claim(session: AsyncSession, *, limit: int, at: datetime) -> list[Due]:
    """First the first lines of every batch, then the second, so that a long one keeps no short one waiting."""
    rows = await session.execute(CLAIM, {"limit": limit, "at": at, "until": at + CLAIM_TIME})
    return [Due(**row) for row in rows.mappings()]


async def keep(session: AsyncSession, lines: Sequence[Due], *, at: datetime) -> None:
    """They are still under way."""
    values = {
        "batches": [line.batch for line in lines],
        "numbers": [line.number for line in lines],
        "until": at + CLAIM_TIME,
    }
    await session.execute(KEEP, values)


async def settle(session: AsyncSession, due: Due, state: LineState, ended: Reply | NotAnswered) -> bool:
    """False where somebody else did it."""
    reply = ended if isinstance(ended, Reply) else None
    result = await session.execute(
        SETTLE,
        {
            "batch": due.batch,
            "number": due.number,
            "state": state,
            "error": None if reply is not None else ended,
            "status": None if reply is None else reply.status,
            "request": None if reply is None else reply.request,
            "answer": None if reply is None else reply.body,
        },
    )
    return result.first() is not None


async def postpone(
    session: AsyncSession, due: Due, *, until: datetime, counts: bool, doubt_since: datetime | None
) -> None:
    """`counts`: whether it was a try."""
    await session.execute(
        POSTPONE,
        {
            "batch": due.batch,
            "number": due.number,
            "until": until,
            "tries": int(counts),
            "doubt_since": doubt_since,
        },
    )


async def results(session: AsyncSession, batch: str, *, answered: bool) -> AsyncIterator[dict[str, Any]]:
    """In the order of the file."""
    number = 0
    while True:
        rows = await session.execute(
            SELECT_RESULTS, {"batch": batch, "after": number, "limit": ROWS, "answered": answered}
        )
        found = rows.mappings().all()
        for row in found:
            yield dict(row)
        if len(found) < ROWS:
            return
        number = found[-1]["number"]


async def any_waits(session: AsyncSession, batch: str) -> bool:
    return bool((await session.execute(ANY_WAITS, {"batch": batch})).scalar_one())


async def remove(session: AsyncSession, batch: str) -> None:
    await session.execute(DELETE, {"batch": batch})


# One that was sent and whose time is over was forgotten by whoever sent it: the same Idempotency-Key makes it safe to
# ask again, and it must be, as it may have been charged.
CLAIM = text("""
    WITH due AS (
      SELECT l.batch, l.number, l.doubt_since, r.endpoint, r.secret_sha256
      FROM (
        SELECT b.id, b.endpoint, b.status, b.expires_at, k.secret_sha256
        FROM batches b JOIN api_keys k ON k.id = b.key
        WHERE b.status IN ('in_progress', 'cancelling') AND b.not_before <= :at
      ) r
      CROSS JOIN LATERAL (
        SELECT * FROM batch_lines o
        WHERE o.batch = r.id AND o.due_at <= :at
          AND (o.state = 'sent' OR o.state = 'waiting' AND r.status = 'in_progress' AND r.expires_at > :at)
        ORDER BY o.number LIMIT :limit FOR UPDATE OF o SKIP LOCKED
      ) l
      ORDER BY l.number, l.batch LIMIT :limit
    )
    UPDATE batch_lines l SET state = 'sent', due_at = :until, doubt_since = coalesce(l.doubt_since, :at) FROM due
    WHERE l.batch = due.batch AND l.number = due.number
    RETURNING l.batch, l.number, due.endpoint, l.body, l.tries, due.secret_sha256 AS key_sha256, due.doubt_since
""")

KEEP = text("""
    UPDATE batch_lines l SET due_at = :until
    FROM unnest(CAST(:batches AS text[]), CAST(:numbers AS int[])) AS k (batch, number)
    WHERE l.batch = k.batch AND l.number = k.number AND l.state = 'sent'
""")

SETTLE = text("""
    WITH settled AS (
      UPDATE batch_lines SET state = :state, error = :error, status = :status, request = :request, answer = :answer
      WHERE batch = :batch AND number = :number AND state = 'sent' RETURNING batch
    )
    UPDATE batches SET
      completed = completed + CASE WHEN CAST(:state AS text) = 'answered' THEN 1 ELSE 0 END,
      failed = failed + CASE WHEN CAST(:state AS text) = 'failed' THEN 1 ELSE 0 END
    WHERE id IN (SELECT batch FROM settled) RETURNING id
""")

POSTPONE = text("""
    UPDATE batch_lines SET state = 'waiting', due_at = :until, tries = tries + :tries,
      doubt_since = :doubt_since
    WHERE batch = :batch AND number = :number AND state = 'sent'
""")

SELECT_RESULTS = text("""
    SELECT batch, number, custom_id, error, status, request, answer, doubt_since FROM batch_lines
    WHERE batch = :batch AND number > :after AND (state = 'answered') = :answered ORDER BY number LIMIT :limit
""")

ANY_WAITS = text("SELECT EXISTS (SELECT FROM batch_lines WHERE batch = :batch AND state = 'waiting')")

DELETE = text("DELETE FROM batch_lines WHERE batch = :batch")
