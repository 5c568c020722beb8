"""What a verdict on a top-up changes in the books, in the transaction that holds the top-up's lock."""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.ledger import grants_store, notices, wallets
from headrace_billing.ledger.grant import BalanceTooLarge, Grant, GrantKind, GrantSource
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.payments import (
    auto_top_up_store,
    customer_store,
    dues,
    settlement_store,
    top_up_store,
)
from headrace_billing.payments.money_seen import PaymentSeen
from headrace_billing.payments.top_up import ON_STRIPES_PAGE, WAITING, TopUp, TopUpState, Verdict, Way
from headrace_billing.plans import sign_up_store, signing_up
from headrace_billing.plans.sign_up import SignUpState

log = structlog.get_logger()

# By whether it was to fill a wallet.
REFUSED = {True: NoticeKind.TOP_UP_REFUSED, False: NoticeKind.PAYMENT_REFUSED}
QUARANTINED = {True: NoticeKind.TOP_UP_QUARANTINED, False: NoticeKind.PAYMENT_QUARANTINED}


async def conclude(
    session: AsyncSession, top_up: TopUp, verdict: Verdict, payment: PaymentSeen | None, *, at: datetime
) -> None:
    """Does nothing where the top-up has come to its end already."""
    if top_up.state not in WAITING:
        return
    if verdict.state is TopUpState.OPEN:
        await _tell_to_authenticate(session, top_up, payment, at=at)
        return
    lot = None
    if verdict.state is TopUpState.PAID and top_up.wallet is not None:
        try:
            lot = await _grant(session, top_up, top_up.wallet, at=at)
        except BalanceTooLarge:
            verdict = Verdict(TopUpState.QUARANTINED, "balance_too_large")
    await top_up_store.close(
        session,
        top_up.id,
        state=verdict.state,
        at=at,
        reason=verdict.reason,
        payment=None if payment is None else payment.id,
        lot=lot,
    )
    if verdict.state is TopUpState.PAID and top_up.invoice is not None:
        await dues.settle(session, top_up, at=at)
    if top_up.sign_up is not None:
        await _sign_up(session, top_up, top_up.sign_up, verdict, at=at)
    if verdict.state is TopUpState.QUARANTINED:
        log.error("top_up_quarantined", top_up=top_up.id, reason=verdict.reason)
    # Who sits before Stripe's page sees there what became of it.
    if verdict.state is TopUpState.QUARANTINED or (
        verdict.state is not TopUpState.PAID and top_up.way not in ON_STRIPES_PAGE
    ):
        came_to = QUARANTINED if verdict.state is TopUpState.QUARANTINED else REFUSED
        kind = came_to[top_up.wallet is not None]
        await _tell(session, top_up, kind, at=at, reason=verdict.reason or "")
    if verdict.state is not TopUpState.PAID and top_up.way is Way.AUTO and top_up.wallet is not None:
        # A card that was declined once is not tried again by itself: the next try costs the customer's standing.
        await auto_top_up_store.stop(session, top_up.wallet, reason=verdict.reason or verdict.state, at=at)


async def settle(session: AsyncSession, top_up: TopUp, payment: PaymentSeen, *, at: datetime) -> None:
    """Stripe's fee, once Stripe has booked it."""
    booked = payment.settlement
    if top_up.state is TopUpState.PAID and not top_up.settled and booked is not None:
        await settlement_store.settle(session, top_up, booked, moved_minor=top_up.amount_minor, at=at)
        await top_up_store.settled(session, top_up.id)


async def _grant(session: AsyncSession, top_up: TopUp, wallet: str, *, at: datetime) -> str:
    """The lot. Raises `BalanceTooLarge` before anything is posted."""
    holdings = (await wallets.lock(session, [wallet]))[wallet]
    grant = Grant(
        id=f"lot_{top_up.id}",
        wallet=wallet,
        currency=top_up.currency,
        amount_nanos=top_up.amount_minor * nanos_per_minor(top_up.currency),
        kind=GrantKind.PAID,
        source=GrantSource.CASH,
        reason=f"top-up {top_up.id}",
        at=at,
    )
    await grants_store.give(session, grant, holdings)
    return grant.id


async def _sign_up(
    session: AsyncSession, top_up: TopUp, sign_up: str, verdict: Verdict, *, at: datetime
) -> None:
    """The subscription begins, and the card pays its renewals where nothing else does."""
    if verdict.state is not TopUpState.PAID:
        quarantined = verdict.state is TopUpState.QUARANTINED
        state = SignUpState.QUARANTINED if quarantined else SignUpState.EXPIRED
        await sign_up_store.end(session, sign_up, state, reason=verdict.reason)
        return
    await signing_up.take(session, sign_up, payment=top_up.id, at=at)
    if verdict.card is not None and await customer_store.default_card(session, top_up.org) is None:
        await customer_store.set_default_card(session, top_up.org, verdict.card)
    if top_up.way is Way.SETUP:
        # Nothing was paid, so there is no fee to wait for.
        await top_up_store.settled(session, top_up.id)


async def _tell_to_authenticate(
    session: AsyncSession, top_up: TopUp, payment: PaymentSeen | None, *, at: datetime
) -> None:
    if top_up.way in ON_STRIPES_PAGE or payment is None or payment.authenticate_url in (None, top_up.url):
        return
    url = payment.authenticate_url
    await top_up_store.opened(session, top_up.id, payment=payment.id, url=url)
    await _tell(
        session,
        top_up,
        NoticeKind.PAYMENT_NEEDS_AUTHENTICATION,
        at=at,
        url=str(url),
        until=top_up.expires_at.isoformat(),
    )


async def _tell(session: AsyncSession, top_up: TopUp, kind: NoticeKind, *, at: datetime, **more: str) -> None:
    content = {
        "top_up": top_up.id,
        "wallet": top_up.wallet,
        "invoice": top_up.invoice,
        "sign_up": top_up.sign_up,
        "amount": plain(top_up.amount_minor, top_up.currency),
        "currency": top_up.currency,
        **more,
    }
    await notices.tell(session, org=top_up.org, kind=kind, at=at, content=content)
