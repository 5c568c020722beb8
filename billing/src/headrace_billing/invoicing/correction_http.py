"""The seller's routes for taking back what was invoiced: credit notes, voiding and write-offs.

Each may be more than one member may do alone, and waits then for a second one; what is done at last is worked out anew
when that member agrees, and never more than what was agreed to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.approvals.approval import Approval, Wanted
from headrace_billing.approvals.asking import WAITS, ask_if_needed, waits
from headrace_billing.approvals.documents import Waiting
from headrace_billing.bodies import Amount, Body, Id, Name
from headrace_billing.callers import AdminOnly, IdempotencyKey, MemberOf
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.invoicing import credit_note_store, crediting, settlement_store
from headrace_billing.invoicing.amounts import minor_of, nanos_per_minor, plain
from headrace_billing.invoicing.correction_documents import (
    CreditNoteDocument,
    WriteOffDocument,
    standing_document,
)
from headrace_billing.invoicing.crediting import Draft
from headrace_billing.invoicing.settlement import (
    Consent,
    NothingOpen,
    SettlementKind,
    Standing,
    write_off_transaction,
)
from headrace_billing.invoicing.settlement_store import Settlement
from headrace_billing.ledger import store as ledger
from headrace_billing.parts import Parts, PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly], route_class=Answering)

LINES_MAX = 10_000


class Kept(TypedDict):
    """What is remembered of a credit note that was issued."""

    credit_note: str


class Correction(Body):
    reason: Name


class LineToCredit(Body):
    position: Annotated[int, Field(ge=1, le=LINES_MAX)]
    amount: Amount | None = None
    """Null means all that is left of it."""


class NewCreditNote(Correction):
    lines: Annotated[list[LineToCredit], Field(min_length=1, max_length=LINES_MAX)] | None = None
    """Null means the whole invoice. No amount needs a sign: a line below zero is credited whole."""


@router.post("/v1/invoices/{invoice_id}/credit-notes", status_code=201, responses=WAITS)
async def credit(
    invoice_id: Id,
    body: NewCreditNote,
    caller: MemberOf,
    parts: PartsOf,
    *,
    idempotency_key: IdempotencyKey,
    response: Response,
) -> CreditNoteDocument | Waiting:
    """More than the seller's bound waits for a second member: the answer is 202 and holds the `approval`."""
    asked = Asked("credit", invoice_id, caller.member.id, idempotency_key)
    return await _credited(asked, body, parts, response)


@router.post("/v1/invoices/{invoice_id}/void", status_code=201, responses=WAITS)
async def void(
    invoice_id: Id,
    body: Correction,
    caller: MemberOf,
    parts: PartsOf,
    *,
    idempotency_key: IdempotencyKey,
    response: Response,
) -> CreditNoteDocument | Waiting:
    """Takes back the whole invoice by a credit note, while nothing is paid of it. Its number stays.

    More than the seller's bound waits for a second member: the answer is 202 and holds the `approval`.
    """
    asked = Asked("void", invoice_id, caller.member.id, idempotency_key)
    return await _credited(asked, body, parts, response)


@router.post("/v1/invoices/{invoice_id}/write-offs", status_code=201, responses=WAITS)
async def write_off(
    invoice_id: Id,
    body: Correction,
    caller: MemberOf,
    parts: PartsOf,
    *,
    idempotency_key: IdempotencyKey,
    response: Response,
) -> WriteOffDocument | Waiting:
    """All that is open becomes bad debt. Money that comes after all recovers it.

    More than the seller's bound waits for a second member: the answer is 202 and holds the `approval`.
    """
    at, once = parts.now(), {"scope": f"write-offs {invoice_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        request = body.model_dump(mode="json")
        answer: WriteOffDocument | Waiting | None = await recall(session, **once, request=request)
        if answer is None:
            standing = await settlement_store.lock(session, invoice_id)
            if standing.open_minor == 0:
                raise NothingOpen(standing.number)
            asked = Asked("write_off", invoice_id, caller.member.id, idempotency_key)
            wanted = asked.wanted(standing, body, moved_minor=standing.open_minor)
            answer = await ask_if_needed(session, wanted, by=asked.by, at=at)
            if answer is None:
                answer = await _written_off(session, standing, body.reason, Consent(asked.by), at)
            await remember(session, **once, answer=answer)
    if waits(answer):
        response.status_code = HTTPStatus.ACCEPTED
    return answer


async def write_off_as_agreed(
    session: AsyncSession, approval: Approval, by: str, at: datetime
) -> WriteOffDocument:
    """What is open now, if it is no more than was agreed to."""
    standing = await settlement_store.lock(session, approval.subject)
    approval.check_amount(standing.open_minor * nanos_per_minor(standing.currency))
    consent = Consent(approval.requested_by, by)
    return await _written_off(session, standing, approval.reason, consent, at)


async def credit_as_agreed(
    session: AsyncSession, approval: Approval, by: str, at: datetime
) -> dict[str, Any]:
    """Also an invoice that is voided. The result names the credit note, which has the rest."""
    void = approval.operation == "void"
    body = _wanted_of(approval.request)
    draft = await _drafted(session, approval.subject, body, void=void)
    approval.check_amount(draft.moved_minor * nanos_per_minor(approval.currency))
    consent = Consent(approval.requested_by, by)
    document = await crediting.issue(session, draft, reason=body.reason, consent=consent, now=at)
    shown = ("id", "number", "currency", "total_with_tax")
    return {name: document[name] for name in shown} | {"invoice": approval.subject}


@dataclass(frozen=True, slots=True)
class Asked:
    operation: str
    invoice: str
    by: str
    """The member who asks."""
    idempotency_key: str

    def wanted(self, standing: Standing, body: Correction, *, moved_minor: int) -> Wanted:
        return Wanted(
            operation=self.operation,
            org=standing.organization,
            subject=self.invoice,
            currency=standing.currency,
            amount_nanos=moved_minor * nanos_per_minor(standing.currency),
            request=body.model_dump(mode="json"),
            reason=body.reason,
        )


async def _credited(
    asked: Asked, body: Correction, parts: Parts, response: Response
) -> CreditNoteDocument | Waiting:
    at = parts.now()
    once = {"scope": f"{asked.operation} {asked.invoice}", "key": asked.idempotency_key}
    async with parts.database.begin() as session:
        answer: Kept | Waiting | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            draft = await _drafted(session, asked.invoice, body, void=asked.operation == "void")
            wanted = asked.wanted(draft.standing, body, moved_minor=draft.moved_minor)
            answer = await ask_if_needed(session, wanted, by=asked.by, at=at)
            if answer is None:
                consent = Consent(asked.by)
                note = await crediting.issue(session, draft, reason=body.reason, consent=consent, now=at)
                answer = Kept(credit_note=note["id"])
            await remember(session, **once, answer=answer)
        if not waits(answer):
            return cast(
                "CreditNoteDocument", await credit_note_store.document(session, answer["credit_note"])
            )
    response.status_code = HTTPStatus.ACCEPTED
    return answer


async def _drafted(session: AsyncSession, invoice: str, body: Correction, *, void: bool) -> Draft:
    currency = (await settlement_store.standing(session, invoice)).currency
    lines = None
    if isinstance(body, NewCreditNote) and body.lines is not None:
        lines = {
            line.position: None if line.amount is None else minor_of(line.amount, currency)
            for line in body.lines
        }
    return await crediting.draft(session, invoice, lines, void=void)


def _wanted_of(request: Mapping[str, Any]) -> Correction:
    return (NewCreditNote if "lines" in request else Correction).model_validate(request)


async def _written_off(
    session: AsyncSession, standing: Standing, reason: str, consent: Consent, at: datetime
) -> WriteOffDocument:
    """Raises `NothingOpen`."""
    write_off_id = new_id("wof", at)
    await ledger.post(session, write_off_transaction(standing, write_off=write_off_id, at=at))
    written_off = Settlement(
        id=write_off_id,
        invoice=standing.invoice,
        kind=SettlementKind.WRITE_OFF,
        amount_minor=standing.open_minor,
        reason=reason,
        consent=consent,
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
