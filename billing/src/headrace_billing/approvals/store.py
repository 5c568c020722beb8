"""Approvals and their bounds in Postgres."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.approvals.approval import LIFE, Approval, ApprovalStatus, Wanted
from headrace_billing.approvals.documents import BoundDocument
from headrace_billing.errors import NotFound
from headrace_billing.ids import new_id
from headrace_billing.money import major


async def needed(session: AsyncSession, wanted: Wanted) -> bool:
    """Whether a second member must agree. Without a bound nobody has to."""
    place = {"operation": wanted.operation, "currency": wanted.currency}
    above = (await session.execute(SELECT_BOUND, place)).scalar()
    return above is not None and wanted.amount_nanos > int(above)


async def ask(session: AsyncSession, wanted: Wanted, *, by: str, at: datetime) -> Approval:
    """What waits from now on for a second member."""
    approval = Approval(
        id=new_id("apr", at),
        operation=wanted.operation,
        org=wanted.org,
        subject=wanted.subject,
        currency=wanted.currency,
        amount_nanos=wanted.amount_nanos,
        request=wanted.request,
        reason=wanted.reason,
        requested_by=by,
        requested_at=at,
        expires_at=at + LIFE,
    )
    await session.execute(
        INSERT,
        {
            "id": approval.id,
            "operation": wanted.operation,
            "org": wanted.org,
            "subject": wanted.subject,
            "currency": wanted.currency,
            "amount": wanted.amount_nanos,
            "request": json.dumps(wanted.request),
            "reason": wanted.reason,
            "by": by,
            "at": at,
            "expires_at": approval.expires_at,
        },
    )
    return approval


async def lock(session: AsyncSession, approval_id: str) -> Approval:
    """Raises `NotFound`."""
    return _approval((await session.execute(LOCK, {"id": approval_id})).mappings().first(), approval_id)


async def read(session: AsyncSession, approval_id: str) -> Approval:
    """Raises `NotFound`."""
    return _approval((await session.execute(SELECT, {"id": approval_id})).mappings().first(), approval_id)


async def page(
    session: AsyncSession, *, pending_at: datetime | None, after: str, limit: int
) -> Sequence[Approval]:
    """All, or those that still wait at a time."""
    rows = await session.execute(SELECT_PAGE, {"pending_at": pending_at, "after": after, "limit": limit})
    return [_approval(row, "") for row in rows.mappings()]


async def decide(
    session: AsyncSession,
    approval: Approval,
    status: ApprovalStatus,
    *,
    by: str,
    at: datetime,
    result: Mapping[str, Any] | None = None,
) -> Approval:
    """The row must be locked."""
    await session.execute(
        DECIDE,
        {
            "id": approval.id,
            "status": status,
            "by": by,
            "at": at,
            "result": None if result is None else json.dumps(result),
        },
    )
    return await read(session, approval.id)


async def set_bound(session: AsyncSession, operation: str, *, currency: str, above_nanos: int | None) -> None:
    """Null takes the bound away."""
    values = {"operation": operation, "currency": currency, "above": above_nanos}
    await session.execute(DELETE_BOUND if above_nanos is None else UPSERT_BOUND, values)


async def bounds(session: AsyncSession) -> list[BoundDocument]:
    rows = await session.execute(SELECT_BOUNDS)
    return [
        {"operation": row.operation, "currency": row.currency, "above": major(int(row.above_nanos))}
        for row in rows
    ]


def _approval(row: RowMapping | None, key: str) -> Approval:
    if row is None:
        raise NotFound("approval", key)
    values = {**row, "amount_nanos": int(row["amount_nanos"]), "status": ApprovalStatus(row["status"])}
    return Approval(**values)


COLUMNS = (
    "id, operation, org, subject, currency, amount_nanos, request, reason, requested_by, requested_at, expires_at,"
    " status, decided_by, decided_at, result"
)

SELECT_BOUND = text("""
    SELECT above_nanos FROM approval_bounds WHERE operation = :operation AND currency = :currency
""")
SELECT_BOUNDS = text(
    "SELECT operation, currency, above_nanos FROM approval_bounds ORDER BY operation, currency"
)
UPSERT_BOUND = text("""
    INSERT INTO approval_bounds (operation, currency, above_nanos) VALUES (:operation, :currency, :above)
    ON CONFLICT (operation, currency) DO UPDATE SET above_nanos = excluded.above_nanos
""")
DELETE_BOUND = text("DELETE FROM approval_bounds WHERE operation = :operation AND currency = :currency")

INSERT = text("""
    INSERT INTO approvals
      (id, operation, org, subject, currency, amount_nanos, request, reason, requested_by, requested_at, expires_at)
    VALUES (:id, :operation, :org, :subject, :currency, :amount, CAST(:request AS jsonb), :reason, :by, :at,
            :expires_at)
""")

SELECT = text(f"SELECT {COLUMNS} FROM approvals WHERE id = :id")  # noqa: S608 - columns of this file
LOCK = text(f"SELECT {COLUMNS} FROM approvals WHERE id = :id FOR UPDATE")  # noqa: S608

SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM approvals
    WHERE id > :after
      AND (CAST(:pending_at AS timestamptz) IS NULL OR (status = 'pending' AND expires_at > :pending_at))
    ORDER BY id LIMIT :limit
""")  # noqa: S608

DECIDE = text("""
    UPDATE approvals SET status = :status, decided_by = :by, decided_at = :at, result = CAST(:result AS jsonb)
    WHERE id = :id
""")
