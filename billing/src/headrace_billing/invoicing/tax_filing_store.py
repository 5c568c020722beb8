"""What whoever reckoned the tax is still to be told, in Postgres: noted with what it is about, so that nothing is forgotten.

Only invoices whose tax was reckoned elsewhere have any; a table of rates needs no telling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing.invoice import Invoice

CLAIM = timedelta(minutes=1)
"""Longer than it takes to ask; who died leaves it to the next one after that."""


class FilingKind(StrEnum):
    SALE = "sale"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """Amounts are of what is due, so without what credit had paid; `net_minor` holds the tax where prices do."""

    id: str
    """The invoice's, or the credit note's."""
    invoice: str
    kind: FilingKind
    calculation: str | None
    net_minor: int
    tax_minor: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Sale:
    """How the sale was filed that a reversal is of."""

    filed_as: str | None
    line_item: str | None
    is_refused: bool


@dataclass(frozen=True, slots=True)
class Untold:
    """What whoever reckons the tax does not know yet, or would not take."""

    id: str
    since: datetime
    reason: str | None
    """Null where it is still tried."""


async def note_sales(session: AsyncSession, invoices: Sequence[Invoice], *, at: datetime) -> None:
    rows = [
        {
            "id": invoice.id,
            "invoice": invoice.id,
            "kind": FilingKind.SALE,
            "calculation": invoice.tax.calculation,
            "net_minor": invoice.due_minor - invoice.tax.added_minor,
            "tax_minor": invoice.tax.tax_minor,
            "at": at,
        }
        for invoice in invoices
        if invoice.tax.calculation
    ]
    if rows:
        await session.execute(INSERT, rows)


async def note_reversal(
    session: AsyncSession, invoice: str, *, note: str, net_minor: int, tax_minor: int, at: datetime
) -> None:
    """Nothing where the sale needed none, or where the note takes nothing of what was due."""
    await session.execute(
        INSERT_REVERSAL,
        {"id": note, "invoice": invoice, "net_minor": net_minor, "tax_minor": tax_minor, "at": at},
    )


async def claim_due(session: AsyncSession, *, now: datetime, limit: int) -> list[Filing]:
    """Oldest first and sales before what reverses them; none of them for anybody else meanwhile."""
    rows = await session.execute(CLAIM_DUE, {"now": now, "later": now + CLAIM, "limit": limit})
    filings = [Filing(**{**row, "kind": FilingKind(row["kind"])}) for row in rows.mappings()]
    return sorted(filings, key=lambda one: (one.created_at, one.kind is FilingKind.REVERSAL, one.id))


async def sale_of(session: AsyncSession, invoice: str) -> Sale:
    row = (await session.execute(SELECT_SALE, {"invoice": invoice})).one()
    return Sale(row.filed_as, row.line_item, row.state == "refused")


async def filed(session: AsyncSession, filing: str, *, filed_as: str, line_item: str | None) -> None:
    await session.execute(SET_FILED, {"id": filing, "filed_as": filed_as, "line_item": line_item})


async def refused(session: AsyncSession, filing: str, *, reason: str) -> None:
    await session.execute(SET_REFUSED, {"id": filing, "reason": reason})


async def untold(session: AsyncSession, *, before: datetime) -> list[Untold]:
    """What was refused and nobody has settled, and what has waited since before that time; the oldest first."""
    rows = await session.execute(SELECT_UNTOLD, {"before": before, "limit": UNTOLD_MAX})
    return [Untold(row.id, row.created_at, row.reason) for row in rows]


async def look_again(session: AsyncSession, filing: str, *, at: datetime) -> None:
    await session.execute(SET_LOOK, {"id": filing, "at": at})


UNTOLD_MAX = 100
"""Shown at once."""

INSERT = text("""
    INSERT INTO tax_filings (id, invoice, kind, calculation, net_minor, tax_minor, created_at, look_at)
    VALUES (:id, :invoice, :kind, :calculation, :net_minor, :tax_minor, :at, :at)
""")

INSERT_REVERSAL = text("""
    INSERT INTO tax_filings (id, invoice, kind, net_minor, tax_minor, created_at, look_at)
    SELECT :id, s.invoice, 'reversal', :net_minor, :tax_minor, :at, :at
    FROM tax_filings s WHERE s.id = :invoice AND (:net_minor <> 0 OR :tax_minor <> 0)
""")

CLAIM_DUE = text("""
    UPDATE tax_filings SET look_at = :later WHERE id IN (
      SELECT id FROM tax_filings WHERE state = 'pending' AND look_at <= :now
      ORDER BY look_at, created_at, id LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id, invoice, kind, calculation, net_minor, tax_minor, created_at
""")

SELECT_SALE = text("SELECT state, filed_as, line_item FROM tax_filings WHERE id = :invoice")

SELECT_UNTOLD = text("""
    SELECT id, created_at, reason FROM tax_filings f
    WHERE (state = 'pending' AND created_at < :before)
       OR (state = 'refused'
           AND NOT EXISTS (SELECT 1 FROM declared_settled d WHERE d.kind = 'tax_not_told' AND d.id = f.id))
    ORDER BY created_at, id LIMIT :limit
""")

SET_FILED = text("""
    UPDATE tax_filings SET state = 'filed', filed_as = :filed_as, line_item = :line_item, look_at = NULL
    WHERE id = :id AND state = 'pending'
""")

SET_REFUSED = text("""
    UPDATE tax_filings SET state = 'refused', reason = :reason, look_at = NULL WHERE id = :id AND state = 'pending'
""")

SET_LOOK = text("UPDATE tax_filings SET look_at = :at WHERE id = :id AND state = 'pending'")
