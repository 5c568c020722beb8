"""Signing up over the API: a subscription that is paid for on Stripe's page before it begins."""

from typing import cast

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.answers import Answering
from headrace_billing.bodies import Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.invoicing.amounts import plain
from headrace_billing.parts import PartsOf
from headrace_billing.payments import top_up_store, topping_up
from headrace_billing.payments.bounds import TopUpCurrencyUnsupported, takes
from headrace_billing.payments.http import TillOf
from headrace_billing.payments.top_up import TopUp, Way
from headrace_billing.plans import sign_up_store, signing_up
from headrace_billing.plans.documents import TermsDocument
from headrace_billing.plans.sign_up import SignUp
from headrace_billing.plans.wishes import Subscribing

router = APIRouter(tags=["subscriptions"], dependencies=[AdminOnly], route_class=Answering)


class SignUpDocument(TermsDocument):
    id: str
    organization: str
    project: str | None
    wallet: str | None
    amount: str
    """With its tax."""
    tax: str
    currency: str
    state: str
    reason: str | None
    subscription: str | None
    invoice: str | None
    payment: str
    url: str | None
    created_at: str
    expires_at: str


@router.post("/v1/sign-ups", status_code=201)
async def start_sign_up(
    body: Subscribing, parts: PartsOf, till: TillOf, idempotency_key: IdempotencyKey
) -> SignUpDocument:
    """The customer pays at `url`, or gives a card where a trial comes first; the card pays what comes later.

    What nobody pays within an hour leaves nothing behind.

    After `payments_unavailable` the same request with the same key goes on where this one stopped.
    """
    at, once = parts.now(), {"scope": f"sign-ups {body.organization}", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            noted = await signing_up.note(session, parts.tax, body, at=at)
            if not takes(noted.currency, Way.CHECKOUT):
                raise TopUpCurrencyUnsupported(noted.currency, Way.CHECKOUT)
            way = Way.CHECKOUT if noted.amount_minor else Way.SETUP
            wish = topping_up.Wish(
                org=noted.org,
                sign_up=noted.id,
                currency=noted.currency,
                amount_minor=noted.amount_minor,
                way=way,
                save_card=True,
            )
            payment = await topping_up.note(session, wish, at=at)
            answer = {"sign_up": noted.id, "payment": payment.id}
            await remember(session, **once, answer=answer)
    await topping_up.go_on(till, answer["payment"], at=at)
    async with parts.database.begin() as session:
        return await _shown(session, answer["sign_up"])


@router.get("/v1/sign-ups")
async def list_sign_ups(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[SignUpDocument]:
    async with parts.database.begin() as session:
        found = await sign_up_store.page(session, org=organization, after=page.begins_after, limit=page.limit)
        return page_of([await _shown(session, one.id) for one in found], page)


@router.get("/v1/sign-ups/{sign_up_id}")
async def show_sign_up(sign_up_id: Id, parts: PartsOf) -> SignUpDocument:
    async with parts.database.begin() as session:
        return await _shown(session, sign_up_id)


@router.post("/v1/sign-ups/{sign_up_id}/cancel")
async def cancel_sign_up(sign_up_id: Id, parts: PartsOf, till: TillOf) -> SignUpDocument:
    """Ends it at Stripe. One that was paid first stays paid, and is answered so."""
    async with parts.database.begin() as session:
        payment = await top_up_store.of_sign_up(session, sign_up_id)
    await topping_up.cancel(till, payment, now=parts.now())
    async with parts.database.begin() as session:
        return await _shown(session, sign_up_id)


async def _shown(session: AsyncSession, sign_up: str) -> SignUpDocument:
    found = await sign_up_store.find(session, sign_up)
    return _document(found, await top_up_store.of_sign_up(session, sign_up))


def _document(sign_up: SignUp, payment: TopUp) -> SignUpDocument:
    found = {
        "id": sign_up.id,
        **sign_up.wish,
        "amount": plain(sign_up.amount_minor, sign_up.currency),
        "tax": plain(sign_up.tax_minor, sign_up.currency),
        "currency": sign_up.currency,
        "state": sign_up.state,
        "reason": sign_up.reason,
        "subscription": sign_up.subscription,
        "invoice": sign_up.invoice,
        "payment": payment.id,
        "url": payment.url,
        "created_at": sign_up.created_at.isoformat(),
        "expires_at": payment.expires_at.isoformat(),
    }
    return cast("SignUpDocument", found)
