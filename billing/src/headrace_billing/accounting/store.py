"""Closed months in Postgres, and the ledger by accounting date."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounting.month import MonthOutOfOrder
from headrace_billing.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    month: date
    closed_at: datetime
    requested_by: str
    approved_by: str
    trial_balance: Mapping[str, Any]


async def last_closed(session: AsyncSession) -> date | None:
    month: date | None = (
        await session.execute(text("SELECT max(month) FROM accounting_months"))
    ).scalar_one()
    return month


async def wait_for_postings(session: AsyncSession) -> None:
    """Until the transaction ends nobody posts; whoever was posting has committed."""
    await session.execute(LOCK)


async def add(session: AsyncSession, closed: ClosedMonth) -> None:
    """Raises `MonthOutOfOrder` where somebody else was quicker."""
    try:
        await session.execute(
            INSERT_MONTH,
            {
                "month": closed.month,
                "closed_at": closed.closed_at,
                "requested_by": closed.requested_by,
                "approved_by": closed.approved_by,
                "trial_balance": json.dumps(closed.trial_balance),
            },
        )
    except IntegrityError as error:
        raise MonthOutOfOrder(f"{closed.month:%Y-%m} was closed meanwhile.") from error


async def closed_month(session: AsyncSession, month: date) -> ClosedMonth:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_MONTH, {"month": month})).mappings().first()
    if row is None:
        raise NotFound("closed month", f"{month:%Y-%m}")
    return ClosedMonth(**row)


async def unfinished_drafts(session: AsyncSession, *, until: datetime) -> int:
    """Drafts of runs up to then that are neither final nor empty."""
    found = await session.execute(COUNT_UNFINISHED, {"until": until})
    return int(found.scalar_one())


async def active_organizations(session: AsyncSession, *, start: datetime, end: datetime) -> Sequence[str]:
    """Those with usage in that time, or with an account that has something unbilled."""
    rows = await session.execute(SELECT_ACTIVE, {"start": start, "end": end})
    return list(rows.scalars())


async def balances_before(session: AsyncSession, at: datetime) -> Sequence[Row[Any]]:
    """By currency and kind, from the postings that count before then."""
    return (await session.execute(SELECT_BALANCES, {"at": at})).all()


LOCK = text("SELECT pg_advisory_xact_lock(1634886514)")

INSERT_MONTH = text("""
    INSERT INTO accounting_months (month, closed_at, requested_by, approved_by, trial_balance)
    VALUES (:month, :closed_at, :requested_by, :approved_by, CAST(:trial_balance AS json))
""")

SELECT_MONTH = text("""
    SELECT month, closed_at, requested_by, approved_by, trial_balance FROM accounting_months WHERE month = :month
""")

COUNT_UNFINISHED = text("""
    SELECT count(*) FROM invoice_drafts d JOIN invoice_runs r ON r.id = d.run
    WHERE r.period_end <= :until AND d.state IN ('draft', 'refused')
""")

SELECT_ACTIVE = text("""
    SELECT org FROM usage_rollups_by_day WHERE hour >= :start AND hour < :end
    UNION SELECT owner FROM ledger_balances WHERE kind = 'unbilled' AND amount_nanos <> 0
    ORDER BY org
""")

SELECT_BALANCES = text("""
    SELECT p.currency, p.kind, sum(p.amount_nanos) AS nanos
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE t.accounting_at < :at
    GROUP BY p.currency, p.kind ORDER BY p.currency, p.kind
""")
