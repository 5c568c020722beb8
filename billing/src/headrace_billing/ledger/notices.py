"""Notices: what an organisation must be told of, written in the transaction that makes it true.

A wallet's fall below its alert is told once; the next one only after the balance was at or above it again. A job looks
under the wallet's lock, so that whoever dies on the way has told nothing and forgotten nothing.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.database import Database
from headrace_billing.ids import new_id
from headrace_billing.ledger import wallets
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.money import major

ALERTS_BATCH_MAX = 100


async def set_alert(session: AsyncSession, wallet: str, *, below_nanos: int | None) -> None:
    """A balance that is below already is told of as soon as the job looks."""
    await session.execute(SET_ALERT, {"wallet": wallet, "below": below_nanos})


async def tell_low_balances(database: Database, *, now: datetime) -> int:
    """Notes a batch of wallets that fell below their alert or rose again; how many."""
    async with database.begin() as session:
        due = (await session.execute(SELECT_DUE, {"limit": ALERTS_BATCH_MAX})).scalars().all()
        if not due:
            return 0
        held = await wallets.lock(session, due)
        for row in (await session.execute(SELECT_ALERTS, {"ids": sorted(held)})).all():
            balance, below = held[row.id].balance_nanos, int(row.alert_below_nanos)
            low = balance < below
            if low == row.alerted:
                continue  # it changed back before the lock was ours
            await session.execute(SET_ALERTED, {"wallet": row.id, "alerted": low})
            if low:
                content = {
                    "wallet": row.id,
                    "currency": row.currency,
                    "balance": major(balance),
                    "below": major(below),
                }
                await tell(session, org=row.org, kind=NoticeKind.BALANCE_LOW, at=now, content=content)
    return len(due)


async def tell(
    session: AsyncSession, *, org: str, kind: NoticeKind, at: datetime, content: Mapping[str, Any]
) -> None:
    await session.execute(
        INSERT_NOTICE,
        {"id": new_id("ntc", at), "org": org, "kind": kind, "at": at, "content": json.dumps(content)},
    )


class NoticeDocument(TypedDict):
    id: str
    organization: str
    kind: NoticeKind
    at: str
    content: Mapping[str, Any]


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> list[NoticeDocument]:
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return [
        {
            "id": row.id,
            "organization": row.org,
            "kind": row.kind,
            "at": row.at.isoformat(),
            "content": row.content,
        }
        for row in rows
    ]


SET_ALERT = text("UPDATE wallets SET alert_below_nanos = :below, alerted = false WHERE id = :wallet")

SET_ALERTED = text("UPDATE wallets SET alerted = :alerted WHERE id = :wallet")

SELECT_DUE = text("""
    SELECT w.id FROM wallets w
    WHERE w.alert_below_nanos IS NOT NULL AND w.alerted <> (
      coalesce((SELECT sum(l.remaining_nanos) FROM credit_lots l WHERE l.wallet = w.id), 0)
      - coalesce((SELECT b.amount_nanos FROM ledger_balances b
                  WHERE b.kind = 'overdraft' AND b.owner = w.id AND b.currency = w.currency), 0)
      < w.alert_below_nanos)
    ORDER BY w.id LIMIT :limit
""")

SELECT_ALERTS = text("""
    SELECT id, org, currency, alert_below_nanos, alerted FROM wallets
    WHERE id = ANY(:ids) AND alert_below_nanos IS NOT NULL ORDER BY id
""")

INSERT_NOTICE = text("""
    INSERT INTO notices (id, org, kind, at, content) VALUES (:id, :org, :kind, :at, CAST(:content AS jsonb))
""")

SELECT_PAGE = text("""
    SELECT id, org, kind, at, content FROM notices
    WHERE id > :after AND (CAST(:org AS text) IS NULL OR org = :org) ORDER BY id LIMIT :limit
""")
