"""How invoices stand, in Postgres, and what takes from the amount due."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.invoicing.settlement import Consent, SettlementKind, Split, Standing


async def lock(session: AsyncSession, invoice: str) -> Standing:
    """How it stands, and nobody changes that until the transaction ends. Raises `NotFound`."""
    await session.execute(LOCK_INVOICE, {"id": invoice})
    return await standing(session, invoice)


async def standing(session: AsyncSession, invoice: str) -> Standing:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_STANDING, {"id": invoice})).first()
    if row is None:
        raise NotFound("invoice", invoice)
    return _standing(row)


async def page(
    session: AsyncSession, *, organization: str | None, open_only: bool, after: str, limit: int
) -> list[tuple[dict[str, Any], Standing]]:
    """Documents with how they stand, in the order of issue."""
    rows = await session.execute(
        SELECT_PAGE, {"org": organization, "open_only": open_only, "after": after, "limit": limit}
    )
    return [(row.document, _standing(row)) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    id: str
    invoice: str
    kind: SettlementKind
    amount_minor: int
    over_minor: int = 0
    reference: str = ""
    reason: str = ""
    consent: Consent | None = None
    happened_at: datetime
    recorded_at: datetime


async def add(session: AsyncSession, one: Settlement) -> None:
    await session.execute(
        INSERT_SETTLEMENT,
        {
            "id": one.id,
            "invoice": one.invoice,
            "kind": one.kind,
            "amount_minor": one.amount_minor,
            "over_minor": one.over_minor,
            "reference": one.reference,
            "reason": one.reason,
            "requested_by": None if one.consent is None else one.consent.requested_by,
            "approved_by": None if one.consent is None else one.consent.approved_by,
            "happened_at": one.happened_at,
            "recorded_at": one.recorded_at,
        },
    )


async def take_up(
    session: AsyncSession,
    invoice: str,
    parts: Split,
    *,
    kind: SettlementKind,
    settlement: str,
    reference: str,
    happened_at: datetime,
    recorded_at: datetime,
) -> None:
    """An amount in the customer's favour, as it was split; what a credit note owes as money stands in the note."""
    over = parts.over_minor if kind is SettlementKind.PAYMENT else 0
    for part, amount, more in (
        (SettlementKind.RECOVERY, -parts.recovered_minor, 0),
        (kind, parts.applied_minor, over),
    ):
        if amount or more:
            await add(
                session,
                Settlement(
                    id=settlement,
                    invoice=invoice,
                    kind=part,
                    amount_minor=amount,
                    over_minor=more,
                    reference=reference,
                    happened_at=happened_at,
                    recorded_at=recorded_at,
                ),
            )


async def history(session: AsyncSession, invoice: str) -> list[Row[Any]]:
    """What took from the amount due, in order."""
    return list((await session.execute(SELECT_HISTORY, {"id": invoice})).all())


def _standing(row: Row[Any]) -> Standing:
    return Standing(
        invoice=row.id,
        number=row.number,
        seller=row.seller,
        organization=row.org,
        currency=row.currency,
        due_minor=row.due_minor,
        paid_minor=int(row.paid_minor),
        over_minor=int(row.over_minor),
        credited_minor=int(row.credited_minor),
        written_off_minor=int(row.written_off_minor),
        credited_lines_minor=int(row.credited_lines_minor),
        total_minor=row.total_minor,
        void=row.void,
        tax_included=row.tax_included,
        credit_notes=tuple(row.credit_notes),
    )


LOCK_INVOICE = text("SELECT id FROM invoices WHERE id = :id FOR UPDATE")

STANDING = """
    SELECT i.id, i.number, i.seller, i.org, i.currency, i.due_minor, i.total_minor, i.tax_included, i.document,
           s.paid_minor, s.over_minor, s.credited_minor, s.written_off_minor,
           n.credited_lines_minor, n.void, n.credit_notes
    FROM invoices i
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(amount_minor) FILTER (WHERE kind IN ('payment', 'reversal')), 0) AS paid_minor,
             coalesce(sum(over_minor) FILTER (WHERE kind = 'payment'), 0) AS over_minor,
             coalesce(sum(amount_minor) FILTER (WHERE kind = 'credit_note'), 0) AS credited_minor,
             coalesce(sum(amount_minor) FILTER (WHERE kind IN ('write_off', 'recovery')), 0) AS written_off_minor
      FROM invoice_settlements WHERE invoice = i.id) AS s
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(net_minor), 0) AS credited_lines_minor, coalesce(bool_or(kind = 'void'), false) AS void,
             coalesce(array_agg(number ORDER BY id), '{}') AS credit_notes
      FROM credit_notes WHERE invoice = i.id) AS n
"""

SELECT_STANDING = text(f"{STANDING} WHERE i.id = :id")

SELECT_PAGE = text(f"""
    {STANDING}
    WHERE i.id > :after AND (CAST(:org AS text) IS NULL OR i.org = :org)
      AND (NOT :open_only OR i.due_minor > s.paid_minor + s.credited_minor + s.written_off_minor)
    ORDER BY i.id LIMIT :limit
""")

INSERT_SETTLEMENT = text("""
    INSERT INTO invoice_settlements (id, invoice, kind, amount_minor, over_minor, reference, reason, requested_by,
                                     approved_by, happened_at, recorded_at)
    VALUES (:id, :invoice, :kind, :amount_minor, :over_minor, :reference, :reason, :requested_by, :approved_by,
            :happened_at, :recorded_at)
""")

SELECT_HISTORY = text("""
    SELECT id, kind, amount_minor, over_minor, reference, reason, requested_by, approved_by, happened_at
    FROM invoice_settlements WHERE invoice = :id ORDER BY recorded_at, id, kind
""")
