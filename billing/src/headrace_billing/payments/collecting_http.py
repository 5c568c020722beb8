"""Routes for paying invoices, and for what is done about those that are not paid."""

from fastapi import APIRouter
from pydantic import model_validator

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Listed, PageOf
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.parts import PartsOf
from headrace_billing.payments import (
    cards,
    collecting,
    customer_store,
    dues,
    dunning_store,
    topping_up,
)
from headrace_billing.payments.documents import (
    DefaultCardDocument,
    DunningDocument,
    TopUpDocument,
    dunning_document,
    top_up_document,
)
from headrace_billing.payments.http import CardId, TillOf
from headrace_billing.payments.top_up import Way, way_of

router = APIRouter(tags=["payments"], dependencies=[AdminOnly], route_class=Answering)


class NewInvoicePayment(Body):
    card: CardId | None = None
    """A saved card; null is paid on Stripe's page."""
    bank_transfer: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "NewInvoicePayment":
        if self.card is not None and self.bank_transfer:
            msg = "name one of card and bank_transfer"
            raise ValueError(msg)
        return self

    @property
    def way(self) -> Way:
        return way_of(self.card, bank_transfer=self.bank_transfer)


class DefaultCard(Body):
    card: CardId | None
    """Null pays no invoice by itself any more."""


@router.post("/v1/invoices/{invoice_id}/pay", status_code=201)
async def pay_invoice(
    invoice_id: Id, body: NewInvoicePayment, parts: PartsOf, till: TillOf, idempotency_key: IdempotencyKey
) -> TopUpDocument:
    """All that is open of it; the payment then goes on as a top-up does, at `GET /v1/top-ups/{id}`."""
    at, once = parts.now(), {"scope": f"pay {invoice_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        org = (await dues.due(session, invoice_id)).org
    if body.card is not None:
        await cards.card_of(till.database, till.stripe, org, body.card)
    async with parts.database.begin() as session:
        answer = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            noted = await collecting.note_payment(session, invoice_id, way=body.way, card=body.card, at=at)
            answer = {"payment": noted.id}
            await remember(session, **once, answer=answer)
    return top_up_document(await topping_up.go_on(till, answer["payment"], at=at))


@router.put("/v1/organizations/{org_id}/default-card")
async def set_default_card(
    org_id: Id, body: DefaultCard, parts: PartsOf, till: TillOf
) -> DefaultCardDocument:
    """The card that invoices are paid with when they are due."""
    async with parts.database.begin() as session:
        await accounts.organization(session, org_id)
    if body.card is not None:
        await cards.card_of(till.database, till.stripe, org_id, body.card)
    async with parts.database.begin() as session:
        await customer_store.set_default_card(session, org_id, body.card)
    return {"organization": org_id, "card": body.card}


@router.post("/v1/invoices/{invoice_id}/dunning/stop")
async def stop_dunning(invoice_id: Id, till: TillOf) -> DunningDocument:
    """For an invoice that was paid, or is given up, by other means. One that is paid already stays so."""
    return dunning_document(await collecting.stop(till, invoice_id))


@router.get("/v1/organizations/{org_id}/dunning")
async def show_dunning(org_id: Id, parts: PartsOf, page: PageOf) -> Listed[DunningDocument]:
    """How far each invoice has come that left something to pay, by the invoices' ids."""
    async with parts.database.begin() as session:
        await accounts.organization(session, org_id)
        found = await dunning_store.of_org(session, org_id, after=page.begins_after, limit=page.limit)
    items = [dunning_document(one) for one in found]
    return {"items": items, "next": items[-1]["invoice"] if len(items) == page.limit else None}
