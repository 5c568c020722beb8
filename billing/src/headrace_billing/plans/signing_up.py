"""Signing up: what it will cost is told beforehand, and the subscription begins in the transaction that notes the payment."""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store as accounts
from headrace_billing.errors import BillingError
from headrace_billing.ids import new_id
from headrace_billing.invoicing import party_store
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.invoicing.tax import Sale, TaxAdapter
from headrace_billing.ledger import notices
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.money import major
from headrace_billing.plans import sign_up_store, store
from headrace_billing.plans.applying import begin
from headrace_billing.plans.passing import due
from headrace_billing.plans.sign_up import SignUp, SignUpState
from headrace_billing.plans.starting import drawn_up
from headrace_billing.plans.wishes import Subscribing

log = structlog.get_logger()


async def note(session: AsyncSession, tax: TaxAdapter, wish: Subscribing, *, at: datetime) -> SignUp:
    """Raises what `drawn_up` raises, `SubscriptionExists` and `TaxUnavailable`."""
    subscription = await drawn_up(session, wish, now=at)
    await store.must_be_free(session, subscription)
    step = due(subscription, at)
    assert step is not None, f"{subscription.id} does not start now"
    name = (await accounts.organization(session, subscription.org)).name
    buyer = (await party_store.profiles(session, {subscription.org: name}))[subscription.org]
    seller = await party_store.seller(session, buyer.seller)
    sale = Sale(seller, buyer, subscription.currency, step.total_minor)
    (assessed,) = await tax.assess_all(session, [sale])
    if isinstance(assessed, BillingError):
        raise assessed
    sign_up = SignUp(
        id=new_id("sgn", at),
        org=subscription.org,
        currency=subscription.currency,
        wish=wish.model_dump(mode="json"),
        amount_minor=step.total_minor + assessed.added_minor,
        tax_minor=assessed.tax_minor,
        state=SignUpState.OPEN,
        created_at=at,
    )
    await sign_up_store.add(session, sign_up)
    return sign_up


async def take(session: AsyncSession, sign_up_id: str, *, payment: str, at: datetime) -> None:
    """Exactly what was asked for has been paid, or a card was kept where that is nothing: the subscription begins."""
    sign_up = await sign_up_store.find(session, sign_up_id, lock=True)
    assert sign_up.state is SignUpState.OPEN, f"{sign_up.id} is {sign_up.state} and was paid"
    if sign_up.amount_minor:
        await ledger.post(session, sign_up.paid_transaction(payment=payment, at=at))
    try:
        subscription = await drawn_up(session, Subscribing.model_validate(sign_up.wish), now=at)
        await begin(session, subscription, now=at)
    except BillingError as error:
        log.warning("sign_up_refused", sign_up=sign_up.id, code=error.code)
        await sign_up_store.end(session, sign_up.id, SignUpState.REFUSED, reason=error.code)
        content = {
            "sign_up": sign_up.id,
            "amount": major(sign_up.amount_minor * nanos_per_minor(sign_up.currency)),
            "currency": sign_up.currency,
            "reason": error.code,
        }
        await notices.tell(session, org=sign_up.org, kind=NoticeKind.SIGN_UP_REFUSED, at=at, content=content)
        return
    await sign_up_store.paid(session, sign_up.id, subscription=subscription.id, at=at)
