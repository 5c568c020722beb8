"""Routes for top-ups, their refunds and disputes. What a page of Stripe's is needed for has a `url`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import StringConstraints, model_validator

from headrace_billing.answers import Answering
from headrace_billing.bodies import Amount, Body, Currency, Id, Listed, PageOf, page_of
from headrace_billing.callers import Admin, AdminOnly, IdempotencyKey, MemberOf
from headrace_billing.idempotency import recall, remember
from headrace_billing.ledger import spendable, wallets
from headrace_billing.money import nanos_of
from headrace_billing.parts import PartsOf
from headrace_billing.payments import cards, dispute_store, refund_store, refunding, top_up_store, topping_up
from headrace_billing.payments.access import PaymentsNotConfigured
from headrace_billing.payments.bounds import bounded_minor
from headrace_billing.payments.documents import (
    DisputeDocument,
    RefundDocument,
    RefundsDocument,
    TopUpDocument,
    dispute_document,
    refund_document,
    top_up_document,
)
from headrace_billing.payments.till import Till
from headrace_billing.payments.top_up import Way, way_of
from headrace_billing.payments.topping_up import Wish

router = APIRouter(tags=["payments"], dependencies=[AdminOnly], route_class=Answering)


def till_of(parts: PartsOf) -> Till:
    """Raises `PaymentsNotConfigured`."""
    if parts.stripe is None:
        raise PaymentsNotConfigured
    return Till(parts.database, parts.valkey, parts.stripe)


TillOf = Annotated[Till, Depends(till_of)]
CardId = Annotated[str, StringConstraints(pattern=r"^(pm|card|src)_[A-Za-z0-9_]{1,100}$")]


class NewTopUp(Body):
    wallet: Id
    amount: Amount
    currency: Currency
    card: CardId | None = None
    """A saved card, charged at once and without the customer; null is paid on Stripe's page."""
    bank_transfer: bool = False
    """Stripe's page says where the money is to be sent to, instead of taking a card."""
    save_card: bool = False
    """Keeps the card that is given on Stripe's page."""

    @model_validator(mode="after")
    def _one_way(self) -> "NewTopUp":
        if (self.card is not None) + self.bank_transfer + self.save_card > 1:
            msg = "name one of card, bank_transfer and save_card"
            raise ValueError(msg)
        return self

    @property
    def way(self) -> Way:
        return way_of(self.card, bank_transfer=self.bank_transfer)


class Refund(Body):
    amount: Amount | None = None
    """Null refunds all that can be."""


@router.post("/v1/top-ups", status_code=201)
async def top_up(
    body: NewTopUp, caller: MemberOf, parts: PartsOf, till: TillOf, idempotency_key: IdempotencyKey
) -> TopUpDocument:
    """Notes the top-up and makes it known to Stripe. Credit is granted once Stripe says that it is paid, and only then.

    After `payments_unavailable` the same request with the same key goes on where this one stopped.
    """
    at = parts.now()
    async with parts.database.begin() as session:
        org = (await wallets.require(session, body.wallet, currency=body.currency)).org
    # Organisations don't know each other's keys, and must not meet by them.
    once = {"scope": "top-ups" if isinstance(caller, Admin) else f"top-ups {org}", "key": idempotency_key}
    if body.card is not None:
        await cards.card_of(till.database, till.stripe, org, body.card)
    async with parts.database.begin() as session:
        answer = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            wish = Wish(
                org=org,
                wallet=body.wallet,
                currency=body.currency,
                amount_minor=bounded_minor(nanos_of(body.amount), body.currency, body.way),
                way=body.way,
                card=body.card,
                save_card=body.save_card,
            )
            answer = {"top_up": (await topping_up.note(session, wish, at=at)).id}
            await remember(session, **once, answer=answer)
    return top_up_document(await topping_up.go_on(till, answer["top_up"], at=at))


@router.get("/v1/top-ups")
async def list_top_ups(parts: PartsOf, page: PageOf, organization: Id | None = None) -> Listed[TopUpDocument]:
    async with parts.database.begin() as session:
        found = await top_up_store.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([top_up_document(one) for one in found], page)


@router.get("/v1/top-ups/{top_up_id}")
async def show_top_up(top_up_id: Id, parts: PartsOf) -> TopUpDocument:
    async with parts.database.begin() as session:
        return top_up_document(await top_up_store.find(session, top_up_id))


@router.post("/v1/top-ups/{top_up_id}/cancel")
async def cancel_top_up(top_up_id: Id, parts: PartsOf, till: TillOf) -> TopUpDocument:
    """Ends it at Stripe. One that was paid first stays paid, and is answered so."""
    async with parts.database.begin() as session:
        noted = await top_up_store.find(session, top_up_id)
    return top_up_document(await topping_up.cancel(till, noted, now=parts.now()))


@router.post("/v1/top-ups/{top_up_id}/refunds", status_code=201)
async def refund_top_up(
    top_up_id: Id, body: Refund, parts: PartsOf, till: TillOf, idempotency_key: IdempotencyKey
) -> RefundDocument:
    """Takes what is left of the credit out of the wallet, then asks Stripe to pay it back to where it came from."""
    at, once = parts.now(), {"scope": f"top-up refund {top_up_id}", "key": idempotency_key}
    amount = None if body.amount is None else nanos_of(body.amount)
    async with parts.database.begin() as session:
        noted = await top_up_store.find(session, top_up_id)
        answer = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            refund = await refunding.note(session, parts.valkey, noted, amount_nanos=amount, at=at)
            answer = {"refund": refund.id}
            await remember(session, **once, answer=answer)
    if noted.wallet is not None:
        await spendable.push_soon(parts.database, parts.valkey, noted.wallet)
    return refund_document(await refunding.advance(till, answer["refund"], now=at), noted)


@router.get("/v1/top-ups/{top_up_id}/refunds")
async def list_refunds(top_up_id: Id, parts: PartsOf) -> RefundsDocument:
    async with parts.database.begin() as session:
        noted = await top_up_store.find(session, top_up_id)
        found = await refund_store.of_top_up(session, top_up_id)
    return {"items": [refund_document(one, noted) for one in found]}


@router.get("/v1/disputes")
async def list_disputes(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[DisputeDocument]:
    """By their ids, which are Stripe's."""
    async with parts.database.begin() as session:
        found = await dispute_store.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([dispute_document(one) for one in found], page)
