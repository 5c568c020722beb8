"""Routes for saved cards, and for top-ups that start by themselves."""

from fastapi import APIRouter

from headrace_billing.answers import Answering
from headrace_billing.bodies import Amount, Body, Id
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.errors import BillingError
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger import wallets
from headrace_billing.money import nanos_of
from headrace_billing.parts import PartsOf
from headrace_billing.payments import auto_top_up_store, cards, customer_store
from headrace_billing.payments.auto_top_up import AutoState, AutoTopUp
from headrace_billing.payments.bounds import bounded_minor
from headrace_billing.payments.documents import (
    AutoTopUpDocument,
    CardPageDocument,
    CardsDocument,
    auto_top_up_document,
    card_document,
)
from headrace_billing.payments.http import CardId, TillOf
from headrace_billing.payments.top_up import Way

router = APIRouter(tags=["payments"], dependencies=[AdminOnly], route_class=Answering)


class CeilingTooLow(BillingError):
    """Not even one top-up would fit under it."""

    code = "ceiling_too_low"

    def __init__(self) -> None:
        super().__init__("monthly_ceiling must be at least amount: else nothing could ever be topped up.")


class NewCard(Body):
    organization: Id


class AutoTopUpBody(Body):
    threshold: Amount
    """A top-up starts once the balance is below."""
    amount: Amount
    monthly_ceiling: Amount
    """Of what is topped up by itself within a month of UTC."""
    card: CardId


@router.post("/v1/cards", status_code=201)
async def add_card(body: NewCard, till: TillOf, idempotency_key: IdempotencyKey) -> CardPageDocument:
    """Stripe's page at `url` takes the card; afterwards it is in the list."""
    customer = await cards.customer_of(till.database, till.stripe, body.organization)
    return {
        "organization": body.organization,
        "url": await till.stripe.open_card_page(customer=customer, key=idempotency_key),
    }


@router.get("/v1/cards")
async def list_cards(organization: Id, till: TillOf) -> CardsDocument:
    found = await cards.cards_of(till.database, till.stripe, organization)
    return {"items": [card_document(one) for one in found]}


@router.delete("/v1/cards/{card_id}", status_code=204)
async def remove_card(card_id: CardId, organization: Id, parts: PartsOf, till: TillOf) -> None:
    """Top-ups that start by themselves with it are stopped."""
    await cards.card_of(till.database, till.stripe, organization, card_id)
    async with parts.database.begin() as session:
        await auto_top_up_store.stop_all(
            session, org=organization, reason="card_removed", at=parts.now(), card=card_id
        )
        await customer_store.drop_default_card(session, organization, card_id)
    await till.stripe.forget_card(card_id)


@router.put("/v1/wallets/{wallet_id}/auto-top-up")
async def save_auto_top_up(
    wallet_id: Id, body: AutoTopUpBody, parts: PartsOf, till: TillOf
) -> AutoTopUpDocument:
    """Also switches on again what was stopped."""
    async with parts.database.begin() as session:
        wallet = await wallets.require(session, wallet_id)
    amount = bounded_minor(nanos_of(body.amount), wallet.currency, Way.AUTO)
    ceiling = nanos_of(body.monthly_ceiling)
    await cards.card_of(till.database, till.stripe, wallet.org, body.card)
    auto = AutoTopUp(
        wallet=wallet_id,
        org=wallet.org,
        currency=wallet.currency,
        threshold_nanos=nanos_of(body.threshold),
        amount_minor=amount,
        card=body.card,
        monthly_ceiling_minor=ceiling // nanos_per_minor(wallet.currency),
        state=AutoState.ON,
        stopped_reason=None,
        ceiling_told_at=None,
    )
    if auto.monthly_ceiling_minor < amount:
        raise CeilingTooLow
    async with parts.database.begin() as session:
        await auto_top_up_store.save(session, auto)
    return auto_top_up_document(auto)


@router.get("/v1/wallets/{wallet_id}/auto-top-up")
async def show_auto_top_up(wallet_id: Id, parts: PartsOf) -> AutoTopUpDocument:
    async with parts.database.begin() as session:
        return auto_top_up_document(await auto_top_up_store.find(session, wallet_id))


@router.delete("/v1/wallets/{wallet_id}/auto-top-up", status_code=204)
async def remove_auto_top_up(wallet_id: Id, parts: PartsOf) -> None:
    """What was started goes on."""
    async with parts.database.begin() as session:
        await auto_top_up_store.remove(session, wallet_id)
