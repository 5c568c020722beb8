"""The invoice of what was paid when somebody signed up: issued as soon as the books let it, and paid by that payment."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError
from headrace_billing.invoicing import settlement_store
from headrace_billing.invoicing.closing import close_period
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.orders import Order
from headrace_billing.invoicing.settlement import SettlementKind, split
from headrace_billing.ledger import store as ledger
from headrace_billing.payments import top_up_store
from headrace_billing.plans import sign_up_store
from headrace_billing.plans.sign_up import SignUp, SignUpState

log = structlog.get_logger()

BATCH_MAX = 20
# Usage of the same customer may not be reconciled yet; that passes within minutes.
TRY_AGAIN = timedelta(seconds=30)


async def settle_sign_ups(books: Books, *, now: datetime) -> bool:
    """Whether there may be more at once."""
    async with books.database.begin() as session:
        waiting = await sign_up_store.to_settle(session, now=now, limit=BATCH_MAX)
    for sign_up in waiting:
        try:
            async with books.database.begin() as session:
                await _settle(session, books, sign_up, now=now)
        except BillingError as error:
            log.info("sign_up_not_invoiced_yet", sign_up=sign_up, code=error.code)
            async with books.database.begin() as session:
                await sign_up_store.put_off(session, sign_up, until=now + TRY_AGAIN)
    return len(waiting) == BATCH_MAX


async def _settle(session: AsyncSession, books: Books, sign_up_id: str, *, now: datetime) -> None:
    """Raises what `close_period` raises."""
    sign_up = await sign_up_store.find(session, sign_up_id, lock=True)
    if sign_up.state is not SignUpState.PAID:
        return
    invoice = await _invoice(session, books, sign_up, now=now)
    standing = await settlement_store.lock(session, invoice)
    parts = split(standing, sign_up.amount_minor)
    transaction = sign_up.settled_transaction(standing, parts, at=now)
    if transaction is not None:
        await ledger.post(session, transaction)
    payment = await top_up_store.pays_invoice(session, sign_up=sign_up.id, invoice=invoice)
    await settlement_store.take_up(
        session,
        invoice,
        parts,
        kind=SettlementKind.PAYMENT,
        settlement=payment,
        reference=payment,
        happened_at=sign_up.created_at,
        recorded_at=now,
    )
    await sign_up_store.settled(session, sign_up.id, invoice=invoice)


async def _invoice(session: AsyncSession, books: Books, sign_up: SignUp, *, now: datetime) -> str:
    """Somebody may have closed the period by hand, or a run has."""
    assert sign_up.subscription is not None, f"{sign_up.id} was paid for nothing"
    issued = await sign_up_store.invoice_of(session, sign_up.subscription)
    if issued is not None:
        return issued
    order = Order(sign_up.org, sign_up.currency, None, now)
    return str((await close_period(session, books, order, now=now))["id"])
