"""Following disputes: the credit of a disputed top-up leaves with the money, and comes back with it."""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing.amounts import plain
from headrace_billing.ledger import notices, spendable, wallets
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.lots import Holdings
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.ledger.transaction import reversal
from headrace_billing.payments import auto_top_up_store, dispute_store, dues, settlement_store, top_up_store
from headrace_billing.payments.dispute import (
    Dispute,
    DisputeState,
    moved,
    state_of,
    taken_key,
    taken_transaction,
)
from headrace_billing.payments.money_seen import DisputeSeen
from headrace_billing.payments.till import Till
from headrace_billing.payments.top_up import TopUp, TopUpState, next_look

WATCH_EACH = timedelta(days=1)
# A dispute can come before the payment is known here, but not by much.
FOREIGN_AFTER = timedelta(days=2)
# Webhooks tell of a dispute; looking is for those that never came, and Stripe itself repeats them for three days.
UNHEARD_FOR = timedelta(days=7)

ENDED = frozenset({DisputeState.RESTORED, DisputeState.LOST, DisputeState.CLOSED, DisputeState.FOREIGN})
NOTICES = {
    DisputeState.OPEN: NoticeKind.DISPUTE_OPENED,
    DisputeState.TAKEN: NoticeKind.DISPUTE_OPENED,
    DisputeState.RESTORED: NoticeKind.DISPUTE_WON,
    DisputeState.LOST: NoticeKind.DISPUTE_LOST,
    DisputeState.CLOSED: NoticeKind.DISPUTE_CLOSED,
}

log = structlog.get_logger()


async def find_unheard(till: Till, *, now: datetime) -> int:
    """Those that no webhook told of; how many. Raises `PaymentsUnavailable`."""
    seen = await till.stripe.disputes(since=int((now - UNHEARD_FOR).timestamp()))
    async with till.database.begin() as session:
        return await dispute_store.hear(session, [each.id for each in seen], at=now)


async def advance(till: Till, dispute_id: str, *, now: datetime) -> Dispute:
    """Does what Stripe's books say at this moment. Raises `PaymentsUnavailable`."""
    seen = await till.stripe.dispute(dispute_id)
    async with till.database.begin() as session:
        before = await dispute_store.find(session, dispute_id, lock=True)
        top_up = None if seen.payment is None else await top_up_store.by_payment(session, seen.payment)
        if top_up is None or top_up.state is not TopUpState.PAID:
            after = await _wait_for_payment(session, before, now=now)
        else:
            after = await _follow(session, before, top_up, seen, now=now)
    if top_up is not None and top_up.wallet is not None and after.state is not before.state:
        await spendable.push_soon(till.database, till.valkey, top_up.wallet)
    return after


async def _wait_for_payment(session: AsyncSession, dispute: Dispute, *, now: datetime) -> Dispute:
    age = now - dispute.heard_at
    if age > FOREIGN_AFTER:
        log.error("dispute_foreign", dispute=dispute.id)
        dispute = replace(dispute, state=DisputeState.FOREIGN)
        await dispute_store.save(session, dispute, look_at=None)
    else:
        await dispute_store.save(session, dispute, look_at=now + next_look(age))
    return dispute


async def _follow(
    session: AsyncSession, before: Dispute, top_up: TopUp, seen: DisputeSeen, *, now: datetime
) -> Dispute:
    money = moved(seen)
    taken = await ledger.transaction_by_key(session, taken_key(seen.id))
    if money.taken is not None and taken is None:
        holdings = await _holdings(session, top_up)
        amount_minor, again_minor = seen.amount_minor, 0
        if top_up.invoice is not None:
            again_minor = await dues.take_back(
                session, top_up, dispute=seen.id, amount_minor=amount_minor, at=now
            )
        taken = taken_transaction(
            top_up, holdings, dispute=seen.id, amount_minor=amount_minor, again_minor=again_minor, at=now
        )
        await ledger.post(session, taken)
        await settlement_store.settle(session, top_up, money.taken, moved_minor=-seen.amount_minor, at=now)
        await auto_top_up_store.stop_all(session, org=top_up.org, reason="disputed", at=now)
    if money.restored is not None and taken is not None and before.state is not DisputeState.RESTORED:
        await _holdings(session, top_up)
        await ledger.post(session, reversal(taken, key=f"dispute:{seen.id}:restored", occurred_at=now))
        if top_up.invoice is not None:
            await dues.give_back(session, top_up, dispute=seen.id, at=now)
        await settlement_store.settle(session, top_up, money.restored, moved_minor=seen.amount_minor, at=now)
    after = replace(
        before,
        state=state_of(seen),
        top_up=top_up.id,
        org=top_up.org,
        amount_minor=seen.amount_minor,
        currency=seen.currency,
        reason=seen.reason,
    )
    await dispute_store.save(session, after, look_at=None if after.state in ENDED else now + WATCH_EACH)
    was_told = before.state in NOTICES and NOTICES[before.state] == NOTICES[after.state]
    if not was_told:
        content = {
            "dispute": seen.id,
            "top_up": top_up.id,
            "wallet": top_up.wallet,
            "invoice": top_up.invoice,
            "amount": plain(seen.amount_minor, seen.currency),
            "currency": seen.currency,
            "reason": seen.reason,
        }
        await notices.tell(session, org=top_up.org, kind=NOTICES[after.state], at=now, content=content)
    return after


async def _holdings(session: AsyncSession, top_up: TopUp) -> Holdings | None:
    """Locked; null where the money paid an invoice."""
    if top_up.wallet is None:
        return None
    return (await wallets.lock(session, [top_up.wallet]))[top_up.wallet]
