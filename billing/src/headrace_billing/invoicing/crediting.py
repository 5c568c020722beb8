"""Issuing a credit note: its number, its lines, its postings and what it settles, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store as charge_store
from headrace_billing.ids import new_id
from headrace_billing.invoicing import credit_note_store, settlement_store, store, tax_filing_store
from headrace_billing.invoicing.amounts import plain
from headrace_billing.invoicing.credit_note import (
    Credited,
    CreditedInFull,
    contained_of,
    credit_transaction,
    credited,
    due_of,
    given_back,
    taken_from_deferred,
    tax_of,
)
from headrace_billing.invoicing.lines import Source
from headrace_billing.invoicing.settlement import (
    Consent,
    InvoicePaid,
    SettlementKind,
    Split,
    Standing,
    split,
)
from headrace_billing.ledger import store as ledger

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a note would take back. The invoice stays locked until the transaction ends."""

    standing: Standing
    lines: Sequence[Credited]
    tax_minor: int
    contained: Mapping[Source, int]
    parts: Split
    void: bool

    @property
    def moved_minor(self) -> int:
        """All that it takes back, whichever way it goes."""
        return sum(abs(one.amount_minor) for one in self.lines) + abs(self.tax_minor)


async def draft(
    session: AsyncSession, invoice: str, wanted: Mapping[int, int | None] | None, *, void: bool = False
) -> Draft:
    """`wanted`: by position the amount in minor units, or null for all that is left; no mapping means everything.

    Raises `NotFound`, `CreditInvalid`, `CreditedInFull`, `InvoicePaid`.
    """
    standing = await settlement_store.lock(session, invoice)
    every = await credit_note_store.creditable(session, invoice)
    if void and (standing.paid_minor or standing.written_off_minor):
        raise InvoicePaid(standing.number)
    if not any(line.left_minor for line in every):
        raise CreditedInFull(standing.number)
    lines = credited(every, wanted, currency=standing.currency)
    taxed = await credit_note_store.taxed(session, invoice)
    tax = tax_of(lines, every, tax_minor=taxed.tax_minor, taken_minor=taxed.taken_minor)
    included = standing.tax_included
    contained = (
        contained_of(lines, every, invoice_tax_minor=taxed.tax_minor, tax_minor=tax) if included else {}
    )
    parts = split(standing, due_of(lines) + (0 if included else tax))
    return Draft(standing, lines, tax, contained, parts, void)


async def issue(
    session: AsyncSession, draft: Draft, *, reason: str, consent: Consent, now: datetime
) -> Document:
    """The note's document."""
    standing, lines, tax, parts = draft.standing, draft.lines, draft.tax_minor, draft.parts
    invoice, kind = standing.invoice, "void" if draft.void else "credit"
    payers = await credit_note_store.payers(session, invoice, lines)
    returned = given_back(lines, payers, owed_back=standing.owed_back)

    # Last of all, because everybody who invoices waits for this row.
    prefix, sequence = await credit_note_store.next_sequence(session, standing.seller)
    note = new_id("crn", now)
    number = f"{prefix}-CN-{sequence:06d}"
    original = await store.document_of(session, invoice)
    document = {
        "id": note,
        "number": number,
        "kind": kind,
        "invoice": {
            "id": invoice,
            "number": standing.number,
            "issued_at": original["issued_at"],
            "period": original["period"],
        },
        "organization": standing.organization,
        "customer": original["customer"],
        "seller": original["seller"],
        "purchase_order": original.get("purchase_order"),
        "currency": standing.currency,
        "issued_at": now.isoformat(),
        "reason": reason,
        "lines": [_line(one, original, standing.currency) for one in lines],
        **({"test": True} if original.get("test") else {}),
        **_sums(lines, tax, parts, standing),
    }
    issued = credit_note_store.Issued(
        id=note,
        seller=standing.seller,
        sequence=sequence,
        number=number,
        kind=kind,
        invoice=invoice,
        reason=reason,
        consent=consent,
        issued_at=now,
        net_minor=sum(one.amount_minor for one in lines),
        tax_minor=tax,
        to_credit_minor=sum(one.amount_minor for one in lines if one.line.prepaid),
        document=document,
    )
    await credit_note_store.add(session, issued, lines)
    await tax_filing_store.note_reversal(
        session, invoice, note=note, net_minor=due_of(lines), tax_minor=tax, at=now
    )
    await settlement_store.take_up(
        session,
        invoice,
        parts,
        kind=SettlementKind.CREDIT_NOTE,
        settlement=note,
        reference=number,
        happened_at=now,
        recorded_at=now,
    )
    await ledger.post(
        session,
        credit_transaction(
            standing,
            lines,
            note=note,
            tax_minor=tax,
            contained=draft.contained,
            parts=parts,
            returned=returned,
            at=now,
        ),
    )
    changed = taken_from_deferred(lines, draft.contained, currency=standing.currency)
    await charge_store.add_deferrals(session, note, changed, at=now)
    return document


def _line(one: Credited, original: Document, currency: str) -> Document:
    shown = original["lines"][one.line.position - 1]
    kept = ("kind", "description", "project", "model", "unit", "outcome_type", "charge", "prepaid")
    return {
        "position": one.line.position,
        **{name: shown[name] for name in kept if name in shown},
        "amount": plain(one.amount_minor, currency),
    }


def _sums(lines: Sequence[Credited], tax: int, parts: Split, standing: Standing) -> Document:
    """Where it goes: off what was open, back as credit, or owed as money."""
    net, currency = sum(one.amount_minor for one in lines), standing.currency
    return {
        "total": plain(net, currency),
        "tax": plain(tax, currency),
        "tax_included": standing.tax_included,
        "total_with_tax": plain(net if standing.tax_included else net + tax, currency),
        "off_amount_due": plain(parts.applied_minor, currency),
        "owed_to_customer": plain(parts.over_minor, currency),
        "back_to_credit": plain(sum(one.amount_minor for one in lines if one.line.prepaid), currency),
    }
