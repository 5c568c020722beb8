"""Postings by accounting month and by why, summed in Postgres."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounting.revenue import BALANCES, RECOGNISED, Movement
from headrace_billing.ledger.transaction import AccountKind, TransactionKind


async def movements(session: AsyncSession, *, before: datetime, currency: str | None) -> list[Movement]:
    """Of everything that counts before then, in order of month."""
    rows = await session.execute(
        SELECT_MOVEMENTS,
        {"before": before, "currency": currency, "accounts": [*RECOGNISED, *BALANCES]},
    )
    return [
        Movement(row.month, row.currency, AccountKind(row.account), TransactionKind(row.kind), int(row.nanos))
        for row in rows
    ]


SELECT_MOVEMENTS = text("""
    SELECT CAST(date_trunc('month', t.accounting_at) AS date) AS month, p.currency, p.kind AS account, t.kind,
           sum(p.amount_nanos) AS nanos
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.accounting_at < :before AND p.kind = ANY(:accounts)
      AND (CAST(:currency AS text) IS NULL OR p.currency = :currency)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
""")
