"""The seller's routes for what becomes of an invoice: payments, credit notes, voiding, write-offs."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, Field
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.approvals import store as approvals
from headrace_billing.approvals.documents import approval_document
from headrace_billing.bodies import Amount, Body, Currency, Id, Name
from headrace_billing.callers import AdminOnly, IdempotencyKey, MemberOf
from headrace_billing.errors import BillingError
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.intervals import utc
from headrace_billing.invoicing import credit_note_store, crediting, settlement_store
from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.invoicing.crediting import Wish
from headrace_billing.invoicing.pdf import print_credit_note
from headrace_billing.invoicing.settlement import (
    Approval,
    SettlementKind,
    Standing,
    payment_transaction,
    split,
    write_off_transaction,
)
from headrace_billing.invoicing.settlement_store import Settlement
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.wallets import CurrencyMismatch
from headrace_billing.money import AmountInvalid, nanos_of
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly])

LINES_MAX = 10_000
WAITS = (
    "More than the seller's bound: nothing was written off yet, and the `approval` waits for a second member."
)


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


class ByTwo(Body):
    reason: Name
    requested_by: Name
    approved_by: Name
    """Another person than the one who asked."""

    @property
    def approval(self) -> Approval:
        return Approval(requested_by=self.requested_by, approved_by=self.approved_by)


class LineToCredit(Body):
    position: Annotated[int, Field(ge=1, le=LINES_MAX)]
    amount: Amount | None = None
    """Null means all that is left of it."""


class NewCreditNote(ByTwo):
    lines: Annotated[list[LineToCredit], Field(min_length=1, max_length=LINES_MAX)] | None = None
    """Null means the whole invoice. No amount needs a sign: a line below zero is credited whole."""


@router.post("/v1/invoices/{invoice_id}/payments", status_code=201)
async def record_payment(
    invoice_id: Id, body: NewPayment, parts: PartsOf, idempotency_key: IdempotencyKey
) -> dict[str, Any]:
    """May be less or more than what is open; what is more is owed to the customer."""
    at, once = parts.now(), {"scope": f"payments {invoice_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        known = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        standing = await settlement_store.lock(session, invoice_id)
        if body.currency != standing.currency:
            raise CurrencyMismatch(standing.number, standing.currency)
        paid_at = utc(body.paid_at)
        if paid_at > at:
            raise PaidInTheFuture
        taken = split(standing, _minor(body.amount, standing.currency))
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
        answer = {
            "id": payment,
            "invoice": invoice_id,
            "amount": body.amount,
            "reference": body.reference,
            "paid_at": paid_at.isoformat(),
            "standing": standing_document(await settlement_store.standing(session, invoice_id)),
        }
        await remember(session, **once, answer=answer)
    return answer


@router.post("/v1/invoices/{invoice_id}/credit-notes", status_code=201)
async def credit(
    invoice_id: Id, body: NewCreditNote, parts: PartsOf, idempotency_key: IdempotencyKey
) -> dict[str, Any]:
    return await _credited(invoice_id, body, parts, idempotency_key, void=False)


@router.post("/v1/invoices/{invoice_id}/void", status_code=201)
async def void(
    invoice_id: Id, body: ByTwo, parts: PartsOf, idempotency_key: IdempotencyKey
) -> dict[str, Any]:
    """Takes back the whole invoice by a credit note, while nothing is paid of it. Its number stays."""
    return await _credited(invoice_id, body, parts, idempotency_key, void=True)


@router.post("/v1/invoices/{invoice_id}/write-offs", status_code=201, responses={202: {"description": WAITS}})
async def write_off(
    invoice_id: Id,
    body: ByTwo,
    caller: MemberOf,
    parts: PartsOf,
    *,
    idempotency_key: IdempotencyKey,
    response: Response,
) -> dict[str, Any]:
    """All that is open becomes bad debt. Money that comes after all recovers it.

    More than the seller's bound waits for a second member: the answer is 202 and holds the `approval`.
    """
    at, once = parts.now(), {"scope": f"write-offs {invoice_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        request = body.model_dump(mode="json")
        answer = await recall(session, **once, request=request)
        if answer is None:
            body.approval.check()
            standing = await settlement_store.lock(session, invoice_id)
            bound: dict[str, Any] = {
                "currency": standing.currency,
                "amount_nanos": standing.open_minor * nanos_per_minor(standing.currency),
            }
            if standing.open_minor and await approvals.needed(session, "write_off", **bound):
                approval = await approvals.ask(
                    session,
                    "write_off",
                    **bound,
                    org=standing.organization,
                    subject=invoice_id,
                    request={**request, "invoice": invoice_id},
                    reason=body.reason,
                    by=caller.member.id,
                    at=at,
                )
                answer = {"approval": approval_document(approval, now=at)}
            else:
                answer = await _written_off(session, standing, body, at)
            await remember(session, **once, answer=answer)
    if "approval" in answer:
        response.status_code = HTTPStatus.ACCEPTED
    return answer


async def write_off_as_agreed(
    session: AsyncSession, request: Mapping[str, Any], at: datetime
) -> dict[str, Any]:
    """Writes off what waited for a second member, as much as is open now."""
    body = ByTwo.model_validate({name: value for name, value in request.items() if name != "invoice"})
    return await _written_off(session, await settlement_store.lock(session, request["invoice"]), body, at)


async def _written_off(
    session: AsyncSession, standing: Standing, body: ByTwo, at: datetime
) -> dict[str, Any]:
    """Raises `NothingOpen`."""
    write_off_id = new_id("wof", at)
    await ledger.post(session, write_off_transaction(standing, write_off=write_off_id, at=at))
    written_off = Settlement(
        id=write_off_id,
        invoice=standing.invoice,
        kind=SettlementKind.WRITE_OFF,
        amount_minor=standing.open_minor,
        reason=body.reason,
        approval=body.approval,
        happened_at=at,
        recorded_at=at,
    )
    await settlement_store.add(session, written_off)
    return {
        "id": write_off_id,
        "invoice": standing.invoice,
        "amount": plain(standing.open_minor, standing.currency),
        "standing": standing_document(await settlement_store.standing(session, standing.invoice)),
    }


@router.get("/v1/invoices/{invoice_id}/settlements")
async def show_settlements(invoice_id: Id, parts: PartsOf) -> dict[str, Any]:
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
async def show_credit_note(note_id: Id, parts: PartsOf) -> dict[str, Any]:
    async with parts.database.begin() as session:
        return await credit_note_store.document(session, note_id)


def standing_document(standing: Standing) -> dict[str, Any]:
    currency = standing.currency
    return {
        "status": standing.status,
        "due": plain(standing.due_minor, currency),
        "paid": plain(standing.paid_minor, currency),
        "credited": plain(standing.credited_minor, currency),
        "written_off": plain(standing.written_off_minor, currency),
        "open": plain(standing.open_minor, currency),
        "overpaid": plain(standing.over_minor, currency),
        "credit_notes": list(standing.credit_notes),
    }


async def _credited(
    invoice: str, body: ByTwo, parts: PartsOf, idempotency_key: str, *, void: bool
) -> dict[str, Any]:
    scope = f"{'void' if void else 'credit-notes'} {invoice}"
    async with parts.database.begin() as session:
        known = await recall(session, scope=scope, key=idempotency_key, request=body.model_dump(mode="json"))
        if known is not None:
            return await credit_note_store.document(session, known["credit_note"])
        standing = await settlement_store.standing(session, invoice)
        wish = Wish(_wanted(body, standing.currency), body.reason, body.approval, void=void)
        document = await crediting.issue(session, invoice, wish, now=parts.now())
        await remember(session, scope=scope, key=idempotency_key, answer={"credit_note": document["id"]})
    return document


def _wanted(body: ByTwo, currency: str) -> dict[int, int | None] | None:
    if not isinstance(body, NewCreditNote) or body.lines is None:
        return None
    return {
        line.position: None if line.amount is None else _minor(line.amount, currency) for line in body.lines
    }


def _minor(amount: str, currency: str) -> int:
    """Raises `AmountInvalid` for what nobody can pay in that currency."""
    minor, rest = divmod(nanos_of(amount), nanos_per_minor(currency))
    if rest:
        raise AmountInvalid(f"{amount!r} has more decimal places than {currency} has.")
    return minor
