"""Refunding a top-up: the credit leaves the wallet first, then the money leaves Stripe; a refund that fails puts both back.

    pending → paid → failed
    pending → failed

While it is pending the amount is owed to the customer (`refund_liability`): it is neither spendable nor gone.
"""

from datetime import datetime, timedelta

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ids import new_id
from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.ledger import grants_store, notices, spendable, wallets
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.grant import GrantSource
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.ledger.refund import CreditNotRefundable, refund_transaction, refundable_nanos
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Transaction,
    TransactionKind,
    business,
    move,
    reversal,
)
from headrace_billing.payments import refund_store, settlement_store, top_up_store
from headrace_billing.payments.access import PaymentRefused
from headrace_billing.payments.bounds import BOUNDS
from headrace_billing.payments.money_seen import RefundSeen, Settlement
from headrace_billing.payments.refund_store import RefundState, TopUpRefund
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.till import Till
from headrace_billing.payments.top_up import TopUp, TopUpState, next_look

FIRST_LOOK = timedelta(minutes=1)
# Stripe forgets an idempotency key after 24 hours; well before, an unanswered refund is looked for instead.
KEY_LIVES = timedelta(hours=20)
# Banks send a refund back within a month or so; a webhook tells, and this looks in case it did not.
WATCHED_FOR = timedelta(days=35)
WATCH_EACH = timedelta(days=1)

log = structlog.get_logger()


async def note(
    session: AsyncSession, valkey: Redis, top_up: TopUp, *, amount_nanos: int | None, at: datetime
) -> TopUpRefund:
    """Takes the credit out of the wallet. Null means all that can be. Raises `CreditNotRefundable`."""
    if top_up.invoice is not None:
        raise CreditNotRefundable(
            f"{top_up.id} paid an invoice: what is too much is credited by a credit note."
        )
    if top_up.state is not TopUpState.PAID or top_up.lot is None or top_up.wallet is None:
        raise CreditNotRefundable(f"{top_up.id} is {top_up.state}: only what was paid can be refunded.")
    holdings = (await wallets.lock(session, [top_up.wallet]))[top_up.wallet]
    lot = next((lot for lot in holdings.lots if lot.id == top_up.lot), None)
    if lot is None:
        raise CreditNotRefundable(f"{top_up.id} is used up.")
    held = await spendable.held_micros(valkey, top_up.wallet)
    unit = nanos_per_minor(top_up.currency)
    step = BOUNDS[top_up.currency].step_minor
    free = refundable_nanos(lot, holdings, held_micros=held, now=at) // unit // step * step
    minor, rest = (free, 0) if amount_nanos is None else divmod(amount_nanos, unit)
    if rest or minor % step or not 0 < minor <= free:
        raise CreditNotRefundable(
            f"Up to {plain(free, top_up.currency)} of {top_up.id} can be refunded, "
            f"in steps of {plain(step, top_up.currency)}."
        )
    refund = TopUpRefund(
        id=new_id("rfd", at),
        top_up=top_up.id,
        amount_minor=minor,
        state=RefundState.PENDING,
        refund=None,
        created_at=at,
    )
    grant = await grants_store.granted(session, lot.id)
    assert grant.source is GrantSource.CASH, f"{lot.id} of {top_up.id} came from {grant.source}"
    await ledger.post(
        session,
        refund_transaction(lot, minor * unit, refund=refund.id, org=top_up.org, source=grant.source, at=at),
    )
    await refund_store.add(session, refund, look_at=at + FIRST_LOOK)
    return refund


async def advance(till: Till, refund_id: str, *, now: datetime) -> TopUpRefund:
    """Asks Stripe for the refund, or what became of it. Raises `PaymentsUnavailable`."""
    async with till.database.begin() as session:
        refund = await refund_store.find(session, refund_id)
        top_up = await top_up_store.find(session, refund.top_up)
    if refund.state is RefundState.FAILED:
        return refund
    seen = await _seen(till.stripe, refund, top_up, now=now)
    async with till.database.begin() as session:
        refund = await refund_store.find(session, refund_id, lock=True)
        await _conclude(session, refund, top_up, seen, now=now)
        return await refund_store.find(session, refund_id)


async def _seen(stripe: Stripe, refund: TopUpRefund, top_up: TopUp, *, now: datetime) -> RefundSeen | None:
    """Null is a refusal: Stripe has no such refund and makes none."""
    assert top_up.payment is not None, f"{top_up.id} is refunded without a payment"
    if refund.refund is not None:
        return await stripe.refund_seen(refund.refund)
    if now - refund.created_at > KEY_LIVES:
        return await stripe.refund_by_reference(reference=refund.id, payment=top_up.payment)
    try:
        return await stripe.refund(
            reference=refund.id, payment=top_up.payment, amount_minor=refund.amount_minor
        )
    except PaymentRefused as refusal:
        log.warning("refund_refused", refund=refund.id, reason=refusal.reason)
        return None


async def _conclude(
    session: AsyncSession, refund: TopUpRefund, top_up: TopUp, seen: RefundSeen | None, *, now: datetime
) -> None:
    if refund.state is RefundState.FAILED:
        return
    state: RefundState = refund.state
    if seen is not None and seen.settlement is not None:
        await _pay(session, refund, top_up, seen.settlement, back=False, at=now)
        state = RefundState.PAID
    if seen is not None and seen.returned is not None:
        await _pay(session, refund, top_up, seen.returned, back=True, at=now)
    # A failure whose money is not booked back yet waits for that, or the books would run ahead of Stripe's.
    if seen is None or (
        seen.status in FAILED and (state is RefundState.PENDING or seen.returned is not None)
    ):
        await _undo(session, refund, top_up, at=now)
        state = RefundState.FAILED
    await refund_store.move(
        session,
        refund.id,
        state=state,
        stripe_id=None if seen is None else seen.id,
        look_at=_look_at(refund, state, now=now),
    )


FAILED = frozenset({"failed", "canceled"})


def _look_at(refund: TopUpRefund, state: RefundState, *, now: datetime) -> datetime | None:
    age = now - refund.created_at
    if state is RefundState.PENDING:
        return now + next_look(age)
    return now + WATCH_EACH if state is RefundState.PAID and age < WATCHED_FOR else None


async def _pay(
    session: AsyncSession, refund: TopUpRefund, top_up: TopUp, booked: Settlement, *, back: bool, at: datetime
) -> None:
    """Once for each balance transaction, by its id."""
    sign = -1 if back else 1
    currency = top_up.currency
    transaction = Transaction(
        key=f"refund:{refund.id}:{'returned' if back else 'paid'}",
        kind=TransactionKind.REFUND_RETURNED if back else TransactionKind.REFUND_PAID,
        currency=currency,
        occurred_at=at,
        postings=move(
            sign * refund.amount_minor * nanos_per_minor(currency),
            debit=Account(AccountKind.REFUND_LIABILITY, top_up.org, currency),
            credit=business(AccountKind.CASH_CLEARING, currency),
        ),
        memo={"refund": refund.id, "top_up": top_up.id},
    )
    await ledger.post(session, transaction)
    await settlement_store.settle(session, top_up, booked, moved_minor=-sign * refund.amount_minor, at=at)


async def _undo(session: AsyncSession, refund: TopUpRefund, top_up: TopUp, *, at: datetime) -> None:
    assert top_up.wallet is not None, f"{top_up.id} was no credit"
    await wallets.lock(session, [top_up.wallet])
    taken = await ledger.transaction_by_key(session, f"refund:{refund.id}")
    assert taken is not None, f"{refund.id} took nothing"
    await ledger.post(session, reversal(taken, key=f"refund:{refund.id}:undone", occurred_at=at))
    content = {
        "refund": refund.id,
        "top_up": top_up.id,
        "amount": plain(refund.amount_minor, top_up.currency),
        "currency": top_up.currency,
    }
    await notices.tell(session, org=top_up.org, kind=NoticeKind.REFUND_FAILED, at=at, content=content)
