"""Topping up: noted first, then asked of Stripe, then granted once Stripe says that it is paid.

No transaction is open while Stripe is asked. A process that dies anywhere leaves a row that says what may have
happened, and whoever looks next asks Stripe and goes on from there; the row's lock lets only one of them grant.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.ids import new_id
from headrace_billing.ledger import spendable
from headrace_billing.payments import cards, top_up_store
from headrace_billing.payments.access import PaymentRefused
from headrace_billing.payments.bounds import (
    OPEN_MAX,
    PAGE_OPEN_MAX,
    WAITS,
    TooManyOpenTopUps,
)
from headrace_billing.payments.concluding import conclude, settle
from headrace_billing.payments.money_seen import CheckoutSeen, PaymentSeen
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.till import Till
from headrace_billing.payments.top_up import (
    ON_STRIPES_PAGE,
    WAITING,
    TopUp,
    TopUpState,
    Verdict,
    Way,
    judged,
    judged_payment,
)
from headrace_billing.valkey import ValkeyError

# Whoever asked is given time to tell Stripe itself before the sweep does.
FIRST_LOOK = timedelta(minutes=1)
# Longer than a request to Stripe that was sent just before the end takes.
LAST_REQUEST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    org: str
    currency: str
    amount_minor: int
    way: Way
    wallet: str | None = None
    """What is to be filled, or else `invoice` or `sign_up` is what is to be paid."""
    invoice: str | None = None
    sign_up: str | None = None
    card: str | None = None
    save_card: bool = False


async def note(session: AsyncSession, wish: Wish, *, at: datetime) -> TopUp:
    """Raises `TooManyOpenTopUps`."""
    if await top_up_store.lock_org_and_count_waiting(session, wish.org) >= OPEN_MAX:
        raise TooManyOpenTopUps
    assert (wish.card is None) == (wish.way in ON_STRIPES_PAGE), f"{wish.way} with card {wish.card}"
    purposes = [one for one in (wish.wallet, wish.invoice, wish.sign_up) if one is not None]
    assert len(purposes) == 1, f"a payment for {purposes}"
    top_up = TopUp(
        id=new_id("pay" if wish.wallet is None else "tup", at),
        org=wish.org,
        wallet=wish.wallet,
        invoice=wish.invoice,
        sign_up=wish.sign_up,
        currency=wish.currency,
        amount_minor=wish.amount_minor,
        way=wish.way,
        card=wish.card,
        save_card=wish.save_card,
        state=TopUpState.CREATING,
        session=None,
        url=None,
        payment=None,
        lot=None,
        reason=None,
        settled=False,
        created_at=at,
        expires_at=at + WAITS[wish.way],
    )
    await top_up_store.add(session, top_up, look_at=at + FIRST_LOOK)
    return top_up


async def begin(till: Till, top_up: TopUp, *, at: datetime) -> TopUp:
    """Makes it known to Stripe, now or before. Raises `PaymentsUnavailable`, and `PaymentRefused` for good.

    Not past its time: by then Stripe may have forgotten the key under which it was asked for before.
    """
    if top_up.state is not TopUpState.CREATING or at >= top_up.expires_at:
        return top_up
    customer = await cards.customer_of(till.database, till.stripe, top_up.org)
    session_id = payment_id = url = None
    try:
        if top_up.way in ON_STRIPES_PAGE:
            page = await _page(till.stripe, top_up, customer)
            session_id, url = page.id, page.url
        else:
            payment = await till.stripe.charge(
                reference=top_up.id,
                customer=customer,
                card=top_up.card or "",
                amount_minor=top_up.amount_minor,
                currency=top_up.currency,
            )
            payment_id = payment.id
    except PaymentRefused as refusal:
        async with till.database.begin() as session:
            locked = await top_up_store.find(session, top_up.id, lock=True)
            if locked.state is TopUpState.CREATING:
                await conclude(session, locked, Verdict(TopUpState.REFUSED, refusal.reason), None, at=at)
        raise
    async with till.database.begin() as session:
        await top_up_store.opened(session, top_up.id, checkout=session_id, payment=payment_id, url=url)
        return await top_up_store.find(session, top_up.id)


async def _page(stripe: Stripe, top_up: TopUp, customer: str) -> CheckoutSeen:
    expires_at = int(min(top_up.expires_at, top_up.created_at + PAGE_OPEN_MAX).timestamp())
    if top_up.way is Way.SETUP:
        return await stripe.open_setup(reference=top_up.id, customer=customer, expires_at=expires_at)
    return await stripe.open_checkout(
        reference=top_up.id,
        customer=customer,
        amount_minor=top_up.amount_minor,
        currency=top_up.currency,
        expires_at=expires_at,
        name=_named(top_up),
        save_card=top_up.save_card,
        bank_transfer=top_up.way is Way.BANK_TRANSFER,
    )


def _named(top_up: TopUp) -> str:
    """What the customer reads on Stripe's page."""
    if top_up.sign_up is not None:
        return "Subscription, first period"
    return "Prepaid credit" if top_up.invoice is None else f"Invoice {top_up.invoice}"


async def go_on(till: Till, top_up_id: str, *, at: datetime) -> TopUp:
    """As far as it comes without the customer. Raises `PaymentsUnavailable`, and `PaymentRefused` for good."""
    async with till.database.begin() as session:
        noted = await top_up_store.find(session, top_up_id)
    noted = await begin(till, noted, at=at)
    return noted if noted.way in ON_STRIPES_PAGE else await advance(till, noted.id, now=at)


async def advance(till: Till, top_up_id: str, *, now: datetime) -> TopUp:
    """Moves it on by what Stripe says at this moment. Raises `PaymentsUnavailable`."""
    async with till.database.begin() as session:
        top_up = await top_up_store.find(session, top_up_id)
    if top_up.state is TopUpState.CREATING:
        top_up = await _begin_or_end(till, top_up, now=now)
    done = top_up.state not in WAITING and (top_up.state is not TopUpState.PAID or top_up.settled)
    if done or (top_up.session is None and top_up.payment is None):
        return top_up
    verdict, payment = await _look(till, top_up)
    if verdict.state is TopUpState.OPEN and payment is not None and now >= top_up.expires_at:
        with suppress(PaymentRefused):  # it was paid in this moment, or is about to be: seen next
            await till.stripe.cancel_payment(payment.id)
        verdict, payment = await _look(till, top_up)
    async with till.database.begin() as session:
        before = await top_up_store.find(session, top_up_id, lock=True)
        if before.state in WAITING:
            await conclude(session, before, verdict, payment, at=now)
        after = await top_up_store.find(session, top_up_id)
        if payment is not None:
            await settle(session, after, payment, at=now)
            after = await top_up_store.find(session, top_up_id)
    if after.state is TopUpState.PAID and before.state in WAITING:
        await _tell_gateways(till, after)
    return after


async def _tell_gateways(till: Till, paid: TopUp) -> None:
    """Of the credit, or that a paused service goes on; the worker does it where Valkey does not answer now."""
    if paid.wallet is not None:
        await spendable.push_soon(till.database, till.valkey, paid.wallet)
    else:
        with suppress(ValkeyError):
            await outbox.push_waiting(till.database, till.valkey)


async def cancel(till: Till, top_up: TopUp, *, now: datetime) -> TopUp:
    """Ends it at Stripe, unless it was paid first: then it is granted. Raises `PaymentsUnavailable`."""
    if top_up.state is TopUpState.CREATING:
        top_up = await begin(till, top_up, at=now)
    if top_up.state is TopUpState.OPEN:
        with suppress(PaymentRefused):  # it is not open any more, and what it is instead is found out next
            if top_up.payment is not None:
                await till.stripe.cancel_payment(top_up.payment)
            elif top_up.session is not None:
                await till.stripe.expire_checkout(top_up.session)
    return await advance(till, top_up.id, now=now)


async def _begin_or_end(till: Till, top_up: TopUp, *, now: datetime) -> TopUp:
    """Past its time nothing is asked for any more, so what Stripe knows of it then is all that there will be."""
    if now < top_up.expires_at:
        with suppress(PaymentRefused):  # noted; it is the end of it
            return await begin(till, top_up, at=now)
    elif now >= top_up.expires_at + LAST_REQUEST:
        payment = await _unanswered(till, top_up)
        async with till.database.begin() as session:
            if payment is not None:
                await top_up_store.opened(session, top_up.id, payment=payment.id, url=None)
            else:
                locked = await top_up_store.find(session, top_up.id, lock=True)
                await conclude(session, locked, Verdict(TopUpState.EXPIRED), None, at=now)
    async with till.database.begin() as session:
        return await top_up_store.find(session, top_up.id)


async def _unanswered(till: Till, top_up: TopUp) -> PaymentSeen | None:
    """A charge whose answer never came. Nobody was ever given the address of a page that we never heard of."""
    if top_up.way in ON_STRIPES_PAGE:
        return None
    customer = await cards.customer_of(till.database, till.stripe, top_up.org)
    return await till.stripe.payment_by_reference(
        reference=top_up.id, customer=customer, since=int(top_up.created_at.timestamp()) - CLOCK_SKEW_SECONDS
    )


CLOCK_SKEW_SECONDS = 300


async def _look(till: Till, top_up: TopUp) -> tuple[Verdict, PaymentSeen | None]:
    if top_up.session is not None:
        page: CheckoutSeen = await till.stripe.checkout(top_up.session)
        return judged(top_up, page), page.payment
    assert top_up.payment is not None and top_up.card is not None, f"{top_up.id} is unknown to Stripe"  # noqa: PT018
    payment = await till.stripe.payment(top_up.payment)
    if payment.needs_authentication and top_up.url is None:
        payment = await till.stripe.ask_to_authenticate(
            reference=top_up.id, payment=payment.id, card=top_up.card
        )
    return judged_payment(top_up, payment), payment
