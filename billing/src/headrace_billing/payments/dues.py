"""What an invoice still needs to be paid, and what a payment of it posts.

The one place where payments meet invoices: whatever else pays, credits or writes off an invoice is counted in `due`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)
from headrace_billing.payments import dunning_store
from headrace_billing.payments.dunning import DunningState
from headrace_billing.payments.top_up import TopUp

PAYMENT_TERM = timedelta(days=14)
"""From an invoice's issue to the day on which it is due."""


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
    if lock:
        await session.execute(LOCK, {"id": invoice})
    row = (await session.execute(SELECT, {"id": invoice})).first()
    if row is None:
        raise NotFound("invoice", invoice)
    open_minor = max(0, int(row.due_minor) - int(row.paid_minor))
    return Due(invoice=row.id, number=row.number, org=row.org, currency=row.currency, open_minor=open_minor)


async def settle(session: AsyncSession, payment: TopUp, *, at: datetime) -> None:
    """Posts a payment that was closed as paid in this very transaction; what is too much is owed to the customer."""
    assert payment.invoice is not None, f"{payment.id} pays no invoice"
    after = await due(session, payment.invoice, lock=True)
    before_minor = int((await session.execute(SELECT_BEFORE, {"id": payment.id})).scalar_one())
    taken = min(payment.amount_minor, max(0, before_minor))
    unit, currency = nanos_per_minor(payment.currency), payment.currency
    amounts = {
        business(AccountKind.CASH_CLEARING, currency): payment.amount_minor,
        Account(AccountKind.RECEIVABLE, payment.org, currency): -taken,
        Account(AccountKind.REFUND_LIABILITY, payment.org, currency): taken - payment.amount_minor,
    }
    transaction = Transaction(
        key=f"payment:{payment.id}",
        kind=TransactionKind.PAYMENT,
        currency=currency,
        occurred_at=at,
        postings=tuple(Posting(account, minor * unit) for account, minor in amounts.items() if minor),
        memo={"invoice": payment.invoice, "number": after.number, "payment": payment.id},
    )
    await ledger.post(session, transaction)
    if after.open_minor == 0:
        await dunning_store.end(session, payment.invoice, DunningState.PAID)


async def reopen(session: AsyncSession, invoice: str, *, at: datetime) -> None:
    """Its payment was taken back: dunning begins anew."""
    await dunning_store.reopen(session, invoice, at=at)


LOCK = text("SELECT id FROM invoices WHERE id = :id FOR UPDATE")

# A payment whose money a cardholder's bank has taken back has not paid.
PAID = """
    SELECT coalesce(sum(t.amount_minor), 0) FROM top_ups t
    WHERE t.invoice = i.id AND t.state = 'paid'
      AND NOT EXISTS (SELECT FROM disputes d WHERE d.top_up = t.id AND d.state IN ('taken', 'lost'))
"""

SELECT = text(f"""
    SELECT i.id, i.number, i.org, i.currency, i.due_minor, ({PAID}) AS paid_minor FROM invoices i WHERE i.id = :id
""")  # noqa: S608 - put together from constants

SELECT_BEFORE = text(f"""
    SELECT i.due_minor - ({PAID}) + t.amount_minor FROM top_ups t JOIN invoices i ON i.id = t.invoice
    WHERE t.id = :id
""")  # noqa: S608 - put together from constants
