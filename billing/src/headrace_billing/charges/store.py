"""Charges in Postgres: put into the books once each, and onto one invoice each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges.charge import Charge, ChargeKind, Recognition, post
from headrace_billing.invoicing.usage import Span
from headrace_billing.invoicing.usage_store import Whose
from headrace_billing.ledger import store as ledger


async def put(session: AsyncSession, charges: Sequence[Charge]) -> list[str]:
    """Into the books, in the caller's transaction: the id of each, those of before where they were put before.

    Raises `IdempotencyConflict` where a reference was charged otherwise.
    """
    if not charges:
        return []
    rows = msgspec.json.encode([_row(charge) for charge in charges]).decode()
    await session.execute(INSERT, {"rows": rows})
    await ledger.post_all(session, [post(charge) for charge in charges])
    found = await session.execute(SELECT_IDS, {"references": [charge.reference for charge in charges]})
    ids = {row.reference: row.id for row in found}
    return [ids[charge.reference] for charge in charges]


async def uninvoiced(session: AsyncSession, every: Mapping[Whose, datetime]) -> dict[Whose, list[Charge]]:
    """Charges that happened before then and are on no invoice. Whoever holds the books' lock has them to itself."""
    found: dict[Whose, list[Charge]] = {whose: [] for whose in every}
    rows = await session.execute(
        SELECT_UNINVOICED,
        {
            "orgs": [whose.organization for whose in every],
            "currencies": [whose.currency for whose in every],
            "befores": list(every.values()),
        },
    )
    for row in rows:
        found[Whose(row.org, row.currency)].append(_charge(row))
    return found


async def add_deferrals(
    session: AsyncSession, source: str, nanos: Mapping[str, int], *, at: datetime
) -> None:
    """By charge what the source changes of its deferred amount: the tax that an invoice took out, or a credit note."""
    rows = [
        {"charge": charge, "source": source, "nanos": changed, "at": at}
        for charge, changed in nanos.items()
        if changed
    ]
    if rows:
        await session.execute(INSERT_DEFERRALS, rows)


def _row(charge: Charge) -> dict[str, Any]:
    return {
        "id": charge.id,
        "reference": charge.reference,
        "org": charge.organization,
        "currency": charge.currency,
        "project": charge.project,
        "kind": charge.kind,
        "recognition": charge.recognition,
        "label": charge.label,
        "quantity": charge.quantity,
        "unit": charge.unit,
        "unit_price": charge.unit_price,
        "per": charge.per,
        "amount_nanos": str(charge.amount_nanos),
        "span_start": charge.span.start,
        "span_end": charge.span.end,
        "happened_at": charge.happened_at,
    }


def _charge(row: Row[Any]) -> Charge:
    return Charge(
        id=row.id,
        reference=row.reference,
        organization=row.org,
        currency=row.currency,
        project=row.project,
        kind=ChargeKind(row.kind),
        recognition=Recognition(row.recognition),
        label=row.label,
        quantity=row.quantity,
        unit=row.unit,
        unit_price=row.unit_price,
        per=row.per,
        amount_nanos=int(row.amount_nanos),
        span=Span(row.span_start, row.span_end),
        happened_at=row.happened_at,
    )


INSERT = text("""
    INSERT INTO charges (id, reference, org, currency, project, kind, recognition, label, quantity, unit, unit_price,
                         per, amount_nanos, span_start, span_end, happened_at)
    SELECT id, reference, org, currency, project, kind, recognition, label, quantity, unit, unit_price,
           per, amount_nanos, span_start, span_end, happened_at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
      AS r (id text, reference text, org text, currency text, project text, kind text, recognition text, label text,
            quantity bigint, unit text, unit_price numeric, per bigint, amount_nanos numeric, span_start timestamptz,
            span_end timestamptz, happened_at timestamptz)
    ON CONFLICT (reference) DO NOTHING
""")

SELECT_IDS = text("SELECT reference, id FROM charges WHERE reference = ANY(:references)")

SELECT_UNINVOICED = text("""
    SELECT c.*
    FROM unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[]), CAST(:befores AS timestamptz[]))
      AS s (org, currency, before)
    JOIN charges c ON c.org = s.org AND c.currency = s.currency AND c.happened_at < s.before
    WHERE NOT EXISTS (SELECT 1 FROM invoice_lines l WHERE l.charge = c.id)
    ORDER BY c.happened_at, c.reference
""")

INSERT_DEFERRALS = text("""
    INSERT INTO charge_deferrals (charge, source, nanos, at) VALUES (:charge, :source, :nanos, :at)
""")
