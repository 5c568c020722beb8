"""E-invoices of what was issued: Factur-X, which people and programs read alike, and its XML alone."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.bodies import Id
from headrace_billing.callers import AdminOnly
from headrace_billing.invoicing import credit_note_store, party_store, store
from headrace_billing.invoicing.einvoice.facturx import put_into, written
from headrace_billing.invoicing.einvoice.lines import Terms
from headrace_billing.invoicing.einvoice.parties import Parties, parties_of
from headrace_billing.invoicing.einvoice.terms import credit_note_terms, invoice_terms
from headrace_billing.invoicing.pdf import print_credit_note, print_pdf
from headrace_billing.parts import Parts, PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly])

Document = dict[str, Any]


@router.get("/v1/invoices/{invoice_id}/factur-x.pdf", response_class=Response)
async def show_factur_x(invoice_id: Id, parts: PartsOf) -> Response:
    """The invoice as PDF/A-3 that holds `factur-x.xml`, in the EN 16931 profile."""
    document, terms = await _invoice(parts, invoice_id)

    def made() -> bytes:
        return put_into(print_pdf(document, archival=True), written(terms), **_said("Invoice", document))

    return _answer(await asyncio.to_thread(made), document, "pdf")


@router.get("/v1/invoices/{invoice_id}/factur-x.xml", response_class=Response)
async def show_invoice_xml(invoice_id: Id, parts: PartsOf) -> Response:
    """The same as Cross Industry Invoice alone."""
    document, terms = await _invoice(parts, invoice_id)
    return _answer(await asyncio.to_thread(written, terms), document, "xml")


@router.get("/v1/credit-notes/{note_id}/factur-x.pdf", response_class=Response)
async def show_credit_note_factur_x(note_id: Id, parts: PartsOf) -> Response:
    document, terms = await _credit_note(parts, note_id)

    def made() -> bytes:
        pdf = print_credit_note(document, archival=True)
        return put_into(pdf, written(terms), **_said("Credit note", document))

    return _answer(await asyncio.to_thread(made), document, "pdf")


@router.get("/v1/credit-notes/{note_id}/factur-x.xml", response_class=Response)
async def show_credit_note_xml(note_id: Id, parts: PartsOf) -> Response:
    document, terms = await _credit_note(parts, note_id)
    return _answer(await asyncio.to_thread(written, terms), document, "xml")


async def _invoice(parts: Parts, invoice: str) -> tuple[Document, Terms]:
    """Raises `NotFound`, `Incomplete`, `CurrencyTooFine`."""
    async with parts.database.snapshot() as session:
        document = await store.document_of(session, invoice)
        named = await _parties(session, document, document.get("tax"))
    return named.said_in(document), invoice_terms(document, named)


async def _credit_note(parts: Parts, note: str) -> tuple[Document, Terms]:
    """Raises as `_invoice`."""
    async with parts.database.snapshot() as session:
        document = await credit_note_store.document(session, note)
        original = await store.document_of(session, document["invoice"]["id"])
        named = await _parties(session, document, original.get("tax"))
    return named.said_in(document), credit_note_terms(document, original, named)


async def _parties(session: AsyncSession, document: Document, tax: Document | None) -> Parties:
    customer = document["customer"]
    profile = await party_store.profile(session, customer["id"], name=customer["name"])
    seller = await party_store.seller(session, document["seller"]["id"])
    return parties_of(document, tax, seller_now=seller.e_invoice, buyer_now=profile.e_invoice)


def _said(kind: str, document: Document) -> dict[str, str]:
    return {"title": f"{kind} {document['number']}", "author": document["seller"]["name"]}


def _answer(content: bytes, document: Document, kind: str) -> Response:
    name = f"{document['number']}.{kind}"
    return Response(
        content,
        media_type=f"application/{kind}",
        headers={"content-disposition": f'inline; filename="{name}"'},
    )
