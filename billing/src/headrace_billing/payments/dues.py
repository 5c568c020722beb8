"""What an invoice still needs to be paid, and what a payment of it posts.

The one place where payments meet invoices. Whatever else pays, credits or writes off an invoice stands in the same
settlements, so it is counted.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing import settlement_store
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.invoicing.settlement import (
    SettlementKind,
    Split,
    payment_transaction,
    split,
    taken_up,
)
from headrace_billing.invoicing.settlement_store import Settlement
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.transaction import Posting, Transaction, TransactionKind
from headrace_billing.payments import dunning_store
from headrace_billing.payments.dunning import DunningState
from headrace_billing.payments.top_up import TopUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    invoice: str
    number: str
    org: str
    currency: str
    open_minor: int
    """Not below zero."""


async def due(session: AsyncSession, invoice: str, *, lock: bool = False) -> Due:
    """Raises `NotFound`."""
    found = await (settlement_store.lock if lock else settlement_store.standing)(session, invoice)
    return Due(
        invoice=invoice,
        number=found.number,
        org=found.organization,
        currency=found.currency,
        open_minor=max(0, found.open_minor),
    )


async def settle(session: AsyncSession, payment: TopUp, *, at: datetime) -> None:
    """Posts a payment that was closed as paid in this very transaction; what is too much is owed to the customer."""
    assert payment.invoice is not None, f"{payment.id} pays no invoice"
    standing = await settlement_store.lock(session, payment.invoice)
    parts = split(standing, payment.amount_minor)
    await ledger.post(session, payment_transaction(standing, parts, payment=payment.id, at=at))
    await _take_up(session, payment.invoice, parts, settlement=payment.id, reference=payment.id, at=at)
    if (await settlement_store.standing(session, payment.invoice)).open_minor == 0:
        await dunning_store.end(session, payment.invoice, DunningState.PAID)


async def take_back(
    session: AsyncSession, payment: TopUp, *, dispute: str, amount_minor: int, at: datetime
) -> int:
    """A bank took back so much of a payment: what of it the invoice needs again, and dunning begins anew.

    The rest had been owed to the customer.
    """
    assert payment.invoice is not None, f"{payment.id} pays no invoice"
    await settlement_store.lock(session, payment.invoice)
    row = (await session.execute(SELECT_APPLIED, {"payment": payment.id})).first()
    again_minor = min(amount_minor, 0 if row is None else int(row.amount_minor))
    if again_minor:
        await settlement_store.add(
            session,
            Settlement(
                id=dispute,
                invoice=payment.invoice,
                kind=SettlementKind.REVERSAL,
                amount_minor=-again_minor,
                reference=payment.id,
                happened_at=at,
                recorded_at=at,
            ),
        )
        await dunning_store.reopen(session, payment.invoice, at=at)
    return again_minor


async def give_back(session: AsyncSession, payment: TopUp, *, dispute: str, at: datetime) -> None:
    """The money came back: it pays what is open still, and what has been paid otherwise is owed to the customer."""
    assert payment.invoice is not None, f"{payment.id} pays no invoice"
    standing = await settlement_store.lock(session, payment.invoice)
    row = (await session.execute(SELECT_REVERSED, {"dispute": dispute})).first()
    if row is None:
        return
    parts = split(standing, -int(row.amount_minor))
    await _take_up(session, payment.invoice, parts, settlement=dispute, reference=payment.id, at=at)
    if beyond := {account: minor for account, minor in taken_up(standing, parts).items() if minor}:
        # The reversal of what was posted for the dispute takes all of it from the receivable.
        beyond[standing.receivable] = (
            beyond.get(standing.receivable, 0) + parts.applied_minor + parts.over_minor
        )
        unit = nanos_per_minor(standing.currency)
        postings = tuple(Posting(account, minor * unit) for account, minor in beyond.items() if minor)
        if postings:
            await ledger.post(
                session,
                Transaction(
                    key=f"dispute:{dispute}:beyond",
                    kind=TransactionKind.PAYMENT,
                    currency=standing.currency,
                    occurred_at=at,
                    postings=postings,
                    memo={"invoice": payment.invoice, "payment": payment.id, "dispute": dispute},
                ),
            )
    if (await settlement_store.standing(session, payment.invoice)).open_minor == 0:
        await dunning_store.end(session, payment.invoice, DunningState.PAID)


async def _take_up(
    session: AsyncSession, invoice: str, parts: Split, *, settlement: str, reference: str, at: datetime
) -> None:
    await settlement_store.take_up(
        session,
        invoice,
        parts,
        kind=SettlementKind.PAYMENT,
        settlement=settlement,
        reference=reference,
        happened_at=at,
        recorded_at=at,
    )


SELECT_APPLIED = text("SELECT amount_minor FROM invoice_settlements WHERE id = :payment AND kind = 'payment'")
SELECT_REVERSED = text(
    "SELECT amount_minor FROM invoice_settlements WHERE id = :dispute AND kind = 'reversal'"
)
