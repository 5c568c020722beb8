"""Refunds of top-ups in Postgres; `look_at` as in `top_up_store`."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.payments.top_up_store import CLAIM_SECONDS


class RefundState(StrEnum):
    PENDING = "pending"  # the credit has left the wallet; the money is not booked yet
    PAID = "paid"
    FAILED = "failed"  # both are back


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpRefund:
    id: str
    top_up: str
    amount_minor: int
    state: RefundState
    refund: str | None
    """Stripe's id."""
    created_at: datetime


async def add(session: AsyncSession, refund: TopUpRefund, *, look_at: datetime) -> None:
    await session.execute(
        INSERT,
        {
            "id": refund.id,
            "top_up": refund.top_up,
            "amount_minor": refund.amount_minor,
            "state": refund.state,
            "at": refund.created_at,
            "look_at": look_at,
        },
    )


async def find(session: AsyncSession, refund: str, *, lock: bool = False) -> TopUpRefund:
    """Raises `NotFound`."""
    row = (await session.execute(LOCK if lock else SELECT, {"id": refund})).mappings().first()
    if row is None:
        raise NotFound("refund", refund)
    return _refund(row)


async def of_top_up(session: AsyncSession, top_up: str) -> list[TopUpRefund]:
    return [_refund(row) for row in (await session.execute(SELECT_OF, {"top_up": top_up})).mappings()]


async def move(
    session: AsyncSession, refund: str, *, state: RefundState, stripe_id: str | None, look_at: datetime | None
) -> None:
    await session.execute(UPDATE, {"id": refund, "state": state, "refund": stripe_id, "look_at": look_at})


async def claim_due(session: AsyncSession, *, now: datetime, limit: int) -> list[str]:
    later = now + timedelta(seconds=CLAIM_SECONDS)
    rows = await session.execute(CLAIM_DUE, {"now": now, "later": later, "limit": limit})
    return list(rows.scalars())


async def hint(session: AsyncSession, ids: Sequence[str], *, at: datetime) -> None:
    await session.execute(SET_HINTED, {"ids": list(ids), "at": at})


def _refund(row: RowMapping) -> TopUpRefund:
    return TopUpRefund(**{**row, "state": RefundState(row["state"])})


COLUMNS = "id, top_up, amount_minor, state, refund, created_at"

INSERT = text("""
    INSERT INTO top_up_refunds (id, top_up, amount_minor, state, created_at, look_at)
    VALUES (:id, :top_up, :amount_minor, :state, :at, :look_at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM top_up_refunds WHERE id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM top_up_refunds WHERE id = :id FOR UPDATE")
SELECT_OF = text(f"SELECT {COLUMNS} FROM top_up_refunds WHERE top_up = :top_up ORDER BY id")

UPDATE = text("""
    UPDATE top_up_refunds SET state = :state, refund = coalesce(:refund, refund), look_at = :look_at WHERE id = :id
""")

CLAIM_DUE = text("""
    UPDATE top_up_refunds SET look_at = :later WHERE id IN (
      SELECT id FROM top_up_refunds WHERE look_at <= :now ORDER BY look_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id
""")

# A refund that went well can still come back weeks later, so a hint wakes one that is not looked at any more.
SET_HINTED = text("""
    UPDATE top_up_refunds SET look_at = :at
    WHERE (id = ANY(:ids) OR refund = ANY(:ids)) AND state <> 'failed' AND (look_at IS NULL OR look_at > :at)
""")
