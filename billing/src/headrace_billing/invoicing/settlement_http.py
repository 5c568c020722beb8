"""The routes for how an invoice stands: payments that came, all that took from the amount due, and credit notes."""

import asyncio
from typing import cast

from fastapi import APIRouter, Response
from pydantic import AwareDatetime

from headrace_billing.answers import Answering
from headrace_billing.bodies import Amount, Body, Currency, Id, Name
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.errors import BillingError
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.intervals import utc
from headrace_billing.invoicing import credit_note_store, settlement_store
from headrace_billing.invoicing.amounts import minor_of, plain
from headrace_billing.invoicing.correction_documents import (
    CreditNoteDocument,
    PaymentDocument,
    SettlementsDocument,
    standing_document,
)
from headrace_billing.invoicing.pdf import print_credit_note
from headrace_billing.invoicing.settlement import (
    SettlementKind,
    payment_transaction,
    split,
)
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.wallets import CurrencyMismatch
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly], route_class=Answering)


class PaidInTheFuture(BillingError):
    """Money that has not come yet."""

    code = "paid_in_the_future"

    def __init__(self) -> None:
        super().__init__("paid_at: money is recorded once it has come.")


class NewPayment(Body):
    """Money that came by another way than the platform's own, such as a bank transfer."""

    amount: Amount
    currency: Currency
    reference: Name
    """As the bank statement has it."""
    paid_at: AwareDatetime


@router.post("/v1/invoices/{invoice_id}/payments", status_code=201)
async def record_payment(
    invoice_id: Id, body: NewPayment, parts: PartsOf, idempotency_key: IdempotencyKey
) -> PaymentDocument:
    """May be less or more than what is open; what is more is owed to the customer."""
    at, once = parts.now(), {"scope": f"payments {invoice_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        known: PaymentDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        standing = await settlement_store.lock(session, invoice_id)
        if body.currency != standing.currency:
            raise CurrencyMismatch(standing.number, standing.currency)
        paid_at = utc(body.paid_at)
        if paid_at > at:
            raise PaidInTheFuture
        taken = split(standing, minor_of(body.amount, standing.currency))
        payment = new_id("pay", at)
        await settlement_store.take_up(
            session,
            invoice_id,
            taken,
            kind=SettlementKind.PAYMENT,
            settlement=payment,
            reference=body.reference,
            happened_at=paid_at,
            recorded_at=at,
        )
        await ledger.post(session, payment_transaction(standing, taken, payment=payment, at=paid_at))
        answer: PaymentDocument = {
            "id": payment,
            "invoice": invoice_id,
            "amount": body.amount,
            "reference": body.reference,
            "paid_at": paid_at.isoformat(),
            "standing": standing_document(await settlement_store.standing(session, invoice_id)),
        }
        await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/invoices/{invoice_id}/settlements")
async def show_settlements(invoice_id: Id, parts: PartsOf) -> SettlementsDocument:
    """Everything that took from the amount due, in the order in which it was recorded."""
    async with parts.database.snapshot() as session:
        standing = await settlement_store.standing(session, invoice_id)
        history = await settlement_store.history(session, invoice_id)
    return {
        "invoice": invoice_id,
        "standing": standing_document(standing),
        "items": [
            {
                "id": row.id,
                "kind": row.kind,
                "amount": plain(row.amount_minor, standing.currency),
                "overpaid": plain(row.over_minor, standing.currency),
                "reference": row.reference or None,
                "reason": row.reason or None,
                "requested_by": row.requested_by,
                "approved_by": row.approved_by,
                "happened_at": row.happened_at.isoformat(),
            }
            for row in history
        ],
    }


@router.get("/v1/credit-notes/{note_id}.pdf", response_class=Response)
async def show_credit_note_pdf(note_id: Id, parts: PartsOf) -> Response:
    async with parts.database.begin() as session:
        document = await credit_note_store.document(session, note_id)
    printed = await asyncio.to_thread(print_credit_note, document)
    name = f"{document['number']}.pdf"
    return Response(
        printed, media_type="application/pdf", headers={"content-disposition": f'inline; filename="{name}"'}
    )


@router.get("/v1/credit-notes/{note_id}")
async def show_credit_note(note_id: Id, parts: PartsOf) -> CreditNoteDocument:
    async with parts.database.begin() as session:
        return cast("CreditNoteDocument", await credit_note_store.document(session, note_id))
