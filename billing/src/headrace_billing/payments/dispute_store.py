"""Disputes in Postgres; `look_at` as in `top_up_store`."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.payments.dispute import Dispute, DisputeState
from headrace_billing.payments.top_up_store import CLAIM_SECONDS


async def hint(session: AsyncSession, dispute: str, *, at: datetime) -> None:
    """Something happened to it: it is looked at next, whatever had become of it."""
    await session.execute(HINT, {"id": dispute, "at": at})


async def hear(session: AsyncSession, disputes: Sequence[str], *, at: datetime) -> int:
    """Those that nobody told of; how many were new."""
    found = await session.execute(HEAR, {"ids": list(disputes), "at": at})
    return len(found.all())


async def find(session: AsyncSession, dispute: str, *, lock: bool = False) -> Dispute:
    """Raises `NotFound`."""
    row = (await session.execute(LOCK if lock else SELECT, {"id": dispute})).mappings().first()
    if row is None:
        raise NotFound("dispute", dispute)
    return _dispute(row)


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> list[Dispute]:
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return [_dispute(row) for row in rows.mappings()]


async def save(session: AsyncSession, dispute: Dispute, *, look_at: datetime | None) -> None:
    await session.execute(
        UPDATE,
        {
            "id": dispute.id,
            "state": dispute.state,
            "top_up": dispute.top_up,
            "org": dispute.org,
            "amount_minor": dispute.amount_minor,
            "currency": dispute.currency,
            "reason": dispute.reason,
            "look_at": look_at,
        },
    )


async def claim_due(session: AsyncSession, *, now: datetime, limit: int) -> list[str]:
    later = now + timedelta(seconds=CLAIM_SECONDS)
    rows = await session.execute(CLAIM_DUE, {"now": now, "later": later, "limit": limit})
    return list(rows.scalars())


def _dispute(row: RowMapping) -> Dispute:
    return Dispute(**{**row, "state": DisputeState(row["state"])})


COLUMNS = "id, state, top_up, org, amount_minor, currency, reason, heard_at"

HINT = text("""
    INSERT INTO disputes AS d (id, heard_at, look_at) VALUES (:id, :at, :at)
    ON CONFLICT (id) DO UPDATE SET look_at = least(d.look_at, excluded.look_at)
""")

HEAR = text("""
    INSERT INTO disputes (id, heard_at, look_at) SELECT id, :at, :at FROM unnest(CAST(:ids AS text[])) AS id
    ON CONFLICT (id) DO NOTHING RETURNING id
""")

SELECT = text(f"SELECT {COLUMNS} FROM disputes WHERE id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM disputes WHERE id = :id FOR UPDATE")

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM disputes
    WHERE id > :after AND (CAST(:org AS text) IS NULL OR org = :org) ORDER BY id LIMIT :limit
""")

UPDATE = text("""
    UPDATE disputes SET state = :state, top_up = :top_up, org = :org, amount_minor = :amount_minor,
      currency = :currency, reason = :reason, look_at = :look_at
    WHERE id = :id
""")

CLAIM_DUE = text("""
    UPDATE disputes SET look_at = :later WHERE id IN (
      SELECT id FROM disputes WHERE look_at <= :now ORDER BY look_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id
""")
