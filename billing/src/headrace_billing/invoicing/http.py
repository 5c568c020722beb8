"""The seller's routes for closing periods, and for invoices as documents and on paper."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, StringConstraints

from headrace_billing.bodies import Body, Currency, Id, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.invoicing import store
from headrace_billing.invoicing.closing import DEFAULT_SELLER, Order, close_period
from headrace_billing.invoicing.invoice import Seller
from headrace_billing.invoicing.pdf import print_pdf
from headrace_billing.parts import PartsOf
from headrace_billing.reconciliation.request import Graces

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly])

GRACES = Graces()

Multiline = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")]
Brief = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class PeriodToClose(Body):
    organization: Id
    currency: Currency | None = None
    """Null where the organisation has one only."""
    start: AwareDatetime | None = None
    """Null means where the last period ended, and for the first one the organisation's beginning."""
    end: AwareDatetime | None = None
    """Exclusive; null means now."""
    seller: Id = DEFAULT_SELLER


class SellerBody(Body):
    name: Name
    address: Multiline = ""
    tax_id: Brief = ""
    email: Brief = ""
    number_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,9}$")]


@router.post("/v1/periods/close", status_code=201)
async def close(body: PeriodToClose, parts: PartsOf, idempotency_key: IdempotencyKey) -> dict[str, Any]:
    """One final invoice for [start, end). Refused while the organisation's requests or books don't reconcile."""
    once = {"scope": "periods/close", "key": idempotency_key}
    async with parts.database.begin() as session:
        known = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return await store.document_of(session, known["invoice"])
        order = Order(body.organization, body.currency, _utc(body.start), _utc(body.end), body.seller)
        document = await close_period(session, parts.database, order, now=parts.now(), graces=GRACES)
        await remember(session, **once, answer={"invoice": document["id"]})
    return document


@router.get("/v1/invoices")
async def list_invoices(parts: PartsOf, page: PageOf, organization: Id | None = None) -> dict[str, Any]:
    async with parts.database.begin() as session:
        found = await store.page(
            session, organization=organization, after=page.begins_after, limit=page.limit
        )
    return page_of(found, page)


@router.get("/v1/invoices/{invoice_id}.pdf", response_class=Response)
async def show_pdf(invoice_id: Id, parts: PartsOf) -> Response:
    async with parts.database.begin() as session:
        document = await store.document_of(session, invoice_id)
    # Typesetting takes a tenth of a second and lets go of the interpreter.
    printed = await asyncio.to_thread(print_pdf, document)
    name = f"{document['number']}.pdf"
    return Response(
        printed, media_type="application/pdf", headers={"content-disposition": f'inline; filename="{name}"'}
    )


@router.get("/v1/invoices/{invoice_id}")
async def show_invoice(invoice_id: Id, parts: PartsOf) -> dict[str, Any]:
    async with parts.database.begin() as session:
        return await store.document_of(session, invoice_id)


@router.put("/v1/sellers/{seller_id}")
async def save_seller(seller_id: Id, body: SellerBody, parts: PartsOf) -> dict[str, Any]:
    """Who invoices. Invoices that were issued keep what they say."""
    async with parts.database.begin() as session:
        await store.save_seller(session, Seller(id=seller_id, **body.model_dump()))
    return {"id": seller_id, **body.model_dump()}


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
