"""What payments do unasked: looking at what waits for Stripe, whatever became of its webhooks, and topping up by itself.

Each item is claimed before Stripe is asked about it, so that any number of workers share the work, and one that dies
leaves it to the next a minute later.
"""

from collections.abc import Awaitable
from datetime import datetime

import structlog

from headrace_billing.invoicing.amounts import plain
from headrace_billing.ledger import notices, wallets
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.payments import auto_top_up_store, dispute_store, refund_store, top_up_store
from headrace_billing.payments.access import PaymentRefused, PaymentsUnavailable
from headrace_billing.payments.auto_top_up import Due, ceiling_is_told, due
from headrace_billing.payments.bounds import TooManyOpenTopUps
from headrace_billing.payments.disputing import advance as advance_dispute
from headrace_billing.payments.refunding import advance as advance_refund
from headrace_billing.payments.till import Till
from headrace_billing.payments.top_up import Way, next_look
from headrace_billing.payments.topping_up import Wish, advance, note

# One worker asks Stripe about so many a second at most, far below what Stripe allows an account (100).
BATCH_MAX = 10

log = structlog.get_logger()


async def look_at_top_ups(till: Till, *, now: datetime) -> int:
    """How many were looked at."""
    async with till.database.begin() as session:
        claimed = await top_up_store.claim_due(session, now=now, limit=BATCH_MAX)
    for top_up, created_at in claimed:
        await _tried(advance(till, top_up, now=now), top_up)
        async with till.database.begin() as session:
            await top_up_store.look_again(
                session, top_up, claimed_at=now, at=now + next_look(now - created_at)
            )
    return len(claimed)


async def look_at_refunds(till: Till, *, now: datetime) -> int:
    async with till.database.begin() as session:
        claimed = await refund_store.claim_due(session, now=now, limit=BATCH_MAX)
    for refund in claimed:
        await _tried(advance_refund(till, refund, now=now), refund)
    return len(claimed)


async def look_at_disputes(till: Till, *, now: datetime) -> int:
    async with till.database.begin() as session:
        claimed = await dispute_store.claim_due(session, now=now, limit=BATCH_MAX)
    for dispute in claimed:
        await _tried(advance_dispute(till, dispute, now=now), dispute)
    return len(claimed)


async def start_auto_top_ups(till: Till, *, now: datetime) -> int:
    """Notes those that are due; `look_at_top_ups` then charges the card. How many."""
    async with till.database.begin() as session:
        candidates = await auto_top_up_store.below_threshold(session, limit=CANDIDATES_MAX)
    started = 0
    for wallet in candidates:
        started += await _start(till, wallet, now=now)
    return started


CANDIDATES_MAX = 500


async def _start(till: Till, wallet: str, *, now: datetime) -> bool:
    async with till.database.begin() as session:
        balance = (await wallets.lock(session, [wallet]))[wallet].balance_nanos
        auto = await auto_top_up_store.find(session, wallet, lock=True)
        recent = await auto_top_up_store.recent(session, wallet, now=now)
        verdict = due(auto, recent, balance_nanos=balance, now=now)
        if verdict is Due.CEILING and not ceiling_is_told(auto, now=now):
            content = {
                "wallet": wallet,
                "ceiling": plain(auto.monthly_ceiling_minor, auto.currency),
                "currency": auto.currency,
            }
            await notices.tell(
                session, org=auto.org, kind=NoticeKind.AUTO_TOP_UP_CEILING, at=now, content=content
            )
            await auto_top_up_store.ceiling_told(session, wallet, at=now)
        if verdict is not Due.NOW:
            return False
        wish = Wish(
            org=auto.org,
            wallet=wallet,
            currency=auto.currency,
            amount_minor=auto.amount_minor,
            way=Way.AUTO,
            card=auto.card,
        )
        try:
            top_up = await note(session, wish, at=now)
        except TooManyOpenTopUps:
            return False  # the customer has others to pay first
        # Nobody else begins it, so it need not wait for its first look.
        await top_up_store.hint(session, ids=[top_up.id], at=now)
        return True


async def _tried(step: Awaitable[object], item: str) -> None:
    """One that Stripe does not answer for, or does not know, keeps no other from being looked at."""
    try:
        await step
    except PaymentsUnavailable:
        log.warning("payment_left_for_later", item=item)
    except PaymentRefused as refusal:
        # Another account's key, say. It is looked at again, in case that is put right.
        log.error("payment_unknown_to_stripe", item=item, reason=refusal.reason)  # noqa: TRY400 - the reason is all
