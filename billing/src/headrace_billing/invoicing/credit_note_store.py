"""Credit notes in Postgres, and the lots that an invoice's prepaid lines were burnt from."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges.charge import ChargeKind, Recognition, account_of
from headrace_billing.errors import NotFound
from headrace_billing.invoicing.credit_note import Burnt, Creditable, Credited, Payer
from headrace_billing.invoicing.lines import OUTCOMES, TOKENS, LineKind, Source
from headrace_billing.invoicing.settlement import Consent
from headrace_billing.ledger import wallets
from headrace_billing.ledger.lots import Holdings
from headrace_billing.ledger.transaction import Account, AccountKind


@dataclass(frozen=True, slots=True)
class Taxed:
    """The invoice's tax, and what credit notes took back of it."""

    tax_minor: int
    taken_minor: int


async def creditable(session: AsyncSession, invoice: str) -> list[Creditable]:
    rows = await session.execute(SELECT_CREDITABLE, {"id": invoice})
    return [
        Creditable(
            position=row.position,
            source=_source(row),
            prepaid=row.prepaid,
            project=row.project,
            amount_minor=row.amount_minor,
            exact_nanos=int(row.exact_nanos),
            left_minor=row.amount_minor - int(row.credited_minor),
            left_nanos=int(row.exact_nanos) - int(row.credited_nanos),
        )
        for row in rows
    ]


def _source(row: Row[Any]) -> Source:
    if row.charge is not None:
        account = account_of(ChargeKind(row.charge_kind), Recognition(row.recognition))
        return Source(account, row.charge)
    return OUTCOMES if LineKind(row.kind) is LineKind.OUTCOME else TOKENS


async def taxed(session: AsyncSession, invoice: str) -> Taxed:
    row = (await session.execute(SELECT_TAXED, {"id": invoice})).one()
    return Taxed(int(row.tax_minor), int(row.taken_minor))


async def payers(
    session: AsyncSession, invoice: str, lines: Iterable[Credited]
) -> dict[str | None, list[Payer]]:
    """By project of the prepaid lines; null is for outcomes. Locks the wallets until the transaction ends."""
    projects = {one.line.project for one in lines if one.line.prepaid}
    if not projects:
        return {}
    found: dict[str | None, list[str]] = {project: [] for project in projects}
    for row in await session.execute(SELECT_WALLETS, {"id": invoice}):
        if row.project in found:
            found[row.project].append(row.wallet)
    every = {wallet for known in found.values() for wallet in known}
    held = await wallets.lock(session, every)
    burnt: dict[str, list[Burnt]] = {wallet: [] for wallet in every}
    for row in await session.execute(SELECT_BURNT, {"id": invoice, "wallets": sorted(every)}):
        account = Account(AccountKind(row.kind), row.wallet, row.currency)
        burnt[row.wallet].append(Burnt(row.id, account, int(row.taken_nanos)))
    return {
        project: [_payer(held[wallet], burnt[wallet]) for wallet in known] for project, known in found.items()
    }


def _payer(held: Holdings, burnt: Sequence[Burnt]) -> Payer:
    return Payer(held.overdraft_account, held.overdraft_nanos, tuple(burnt))


async def next_sequence(session: AsyncSession, seller: str) -> tuple[str, int]:
    """The seller's number prefix and the count of its next credit note; others wait until the transaction ends."""
    prefix: str = (await session.execute(LOCK_SELLER, {"id": seller})).scalar_one()
    count: int = (await session.execute(SELECT_NEXT, {"id": seller})).scalar_one()
    return prefix, count


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    id: str
    seller: str
    sequence: int
    number: str
    kind: str
    invoice: str
    reason: str
    consent: Consent
    issued_at: datetime
    net_minor: int
    tax_minor: int
    to_credit_minor: int
    document: dict[str, Any]


async def add(session: AsyncSession, note: Issued, lines: Sequence[Credited]) -> None:
    await session.execute(
        INSERT_NOTE,
        {
            "id": note.id,
            "seller": note.seller,
            "sequence": note.sequence,
            "number": note.number,
            "kind": note.kind,
            "invoice": note.invoice,
            "reason": note.reason,
            "requested_by": note.consent.requested_by,
            "approved_by": note.consent.approved_by,
            "issued_at": note.issued_at,
            "net_minor": note.net_minor,
            "tax_minor": note.tax_minor,
            "to_credit_minor": note.to_credit_minor,
            "document": json.dumps(note.document, ensure_ascii=False),
        },
    )
    await session.execute(
        INSERT_LINES,
        [
            {
                "credit_note": note.id,
                "invoice": note.invoice,
                "position": one.line.position,
                "amount_minor": one.amount_minor,
                "exact_nanos": one.exact_nanos,
            }
            for one in lines
        ],
    )


async def document(session: AsyncSession, note: str) -> dict[str, Any]:
    """Raises `NotFound`."""
    found: dict[str, Any] | None = (await session.execute(SELECT_DOCUMENT, {"id": note})).scalar()
    if found is None:
        raise NotFound("credit note", note)
    return found


SELECT_CREDITABLE = text("""
    SELECT l.position, l.kind, l.prepaid, l.project, l.amount_minor, l.exact_nanos,
           l.charge, g.kind AS charge_kind, g.recognition,
           coalesce(sum(c.amount_minor), 0) AS credited_minor, coalesce(sum(c.exact_nanos), 0) AS credited_nanos
    FROM invoice_lines l
    LEFT JOIN charges g ON g.id = l.charge
    LEFT JOIN credit_note_lines c ON c.invoice = l.invoice AND c.position = l.position
    WHERE l.invoice = :id
    GROUP BY l.invoice, l.position, g.id ORDER BY l.position
""")

SELECT_TAXED = text("""
    SELECT i.tax_minor, (SELECT coalesce(sum(tax_minor), 0) FROM credit_notes WHERE invoice = i.id) AS taken_minor
    FROM invoices i WHERE i.id = :id
""")

# An outcome belongs to no project on an invoice, and its task's project has paid for it.
SELECT_WALLETS = text("""
    SELECT DISTINCT project, wallet FROM invoice_portions WHERE invoice = :id AND disposition IN ('prepaid', 'commitment')
    UNION
    SELECT NULL, t.wallet FROM outcomes o JOIN tasks t ON t.id = o.task
    WHERE o.invoice = :id AND t.reserved
    ORDER BY project, wallet
""")

# What the invoice's own time burnt comes before the rest, and of that what was burnt last.
SELECT_BURNT = text("""
    SELECT l.id, l.kind, l.wallet, l.currency, sum(p.amount_nanos) AS taken_nanos
    FROM invoices i, credit_lots l
    JOIN ledger_postings p ON p.lot = l.id
    JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE i.id = :id AND l.wallet = ANY(:wallets)
      AND t.kind IN ('usage', 'overdraft_repaid', 'outcome_reserved', 'outcome_released', 'credit_note')
    GROUP BY l.id, i.period_start, i.period_end
    HAVING sum(p.amount_nanos) > 0
    ORDER BY bool_or(t.occurred_at >= i.period_start AND t.occurred_at < i.period_end) DESC, l.last_burnt DESC, l.id
""")

LOCK_SELLER = text("SELECT number_prefix FROM sellers WHERE id = :id FOR UPDATE")

SELECT_NEXT = text("SELECT coalesce(max(sequence), 0) + 1 FROM credit_notes WHERE seller = :id")

INSERT_NOTE = text("""
    INSERT INTO credit_notes (id, seller, sequence, number, kind, invoice, reason, requested_by, approved_by,
                              issued_at, net_minor, tax_minor, to_credit_minor, document)
    VALUES (:id, :seller, :sequence, :number, :kind, :invoice, :reason, :requested_by, :approved_by,
            :issued_at, :net_minor, :tax_minor, :to_credit_minor, CAST(:document AS json))
""")

INSERT_LINES = text("""
    INSERT INTO credit_note_lines (credit_note, invoice, position, amount_minor, exact_nanos)
    VALUES (:credit_note, :invoice, :position, :amount_minor, :exact_nanos)
""")

SELECT_DOCUMENT = text("SELECT document FROM credit_notes WHERE id = :id")
