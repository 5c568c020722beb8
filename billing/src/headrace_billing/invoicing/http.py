"""The seller's routes for closing periods, and for invoices as documents and on paper."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from fastapi import APIRouter, Response
from pydantic import AwareDatetime
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Currency, Id, Listed, PageOf
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.intervals import utc
from headrace_billing.invoicing import settlement_store, store
from headrace_billing.invoicing.closing import close_period
from headrace_billing.invoicing.correction_documents import standing_document
from headrace_billing.invoicing.cursor import after_of, cursor_of
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.invoice_document import InvoiceDocument
from headrace_billing.invoicing.orders import Order
from headrace_billing.invoicing.pdf import print_pdf
from headrace_billing.invoicing.settlement import Standing
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly], route_class=Answering)


class PeriodToClose(Body):
    organization: Id
    currency: Currency | None = None
    """Null where the organisation has one only."""
    start: AwareDatetime | None = None
    """Null means where the last period ended, and for the first one the organisation's beginning."""
    end: AwareDatetime | None = None
    """Exclusive; null means now."""
    seller: Id | None = None
    """Null means the one of the customer's billing profile."""


@router.post("/v1/periods/close", status_code=201)
async def close(body: PeriodToClose, parts: PartsOf, idempotency_key: IdempotencyKey) -> InvoiceDocument:
    """One final invoice for [start, end). Refused while the organisation's requests or books don't reconcile."""
    once = {"scope": "periods/close", "key": idempotency_key}
    async with parts.database.begin() as session:
        known = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return await _shown(session, known["invoice"])
        order = Order(body.organization, body.currency, _utc(body.start), _utc(body.end), body.seller)
        document = await close_period(
            session, Books(parts.database, parts.tax, test=parts.is_test), order, now=parts.now()
        )
        await remember(session, **once, answer={"invoice": document["id"]})
        return await _shown(session, document["id"])


@router.get("/v1/invoices")
async def list_invoices(
    parts: PartsOf, page: PageOf, organization: Id | None = None, *, open_only: bool = False
) -> Listed[InvoiceDocument]:
    """In the order of issue; `next` goes into `after`, with the rest of the query as it was."""
    query = (organization or "", str(open_only))
    async with parts.database.snapshot() as session:
        found = await settlement_store.page(
            session,
            organization=organization,
            open_only=open_only,
            after=after_of(page.after, query),
            limit=page.limit,
        )
    items = [_with_standing(document, standing) for document, standing in found]
    return {
        "items": items,
        "next": cursor_of(items[-1]["id"], query) if len(items) == page.limit else None,
    }


@router.get("/v1/invoices/{invoice_id}.pdf", response_class=Response)
async def show_pdf(invoice_id: Id, parts: PartsOf) -> Response:
    """As it was issued, whatever became of it."""
    async with parts.database.begin() as session:
        document = await store.document_of(session, invoice_id)
    # Typesetting takes a tenth of a second and lets go of the interpreter.
    printed = await asyncio.to_thread(print_pdf, document)
    name = f"{document['number']}.pdf"
    return Response(
        printed, media_type="application/pdf", headers={"content-disposition": f'inline; filename="{name}"'}
    )


@router.get("/v1/invoices/{invoice_id}")
async def show_invoice(invoice_id: Id, parts: PartsOf) -> InvoiceDocument:
    """As it was issued, and under `standing` what became of it."""
    async with parts.database.begin() as session:
        return await _shown(session, invoice_id)


async def _shown(session: AsyncSession, invoice: str) -> InvoiceDocument:
    document = await store.document_of(session, invoice)
    return _with_standing(document, await settlement_store.standing(session, invoice))


def _with_standing(document: Mapping[str, Any], standing: Standing) -> InvoiceDocument:
    return cast("InvoiceDocument", {**document, "standing": standing_document(standing)})


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else utc(at)
