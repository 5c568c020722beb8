"""Routes for service levels: what a month attained, the credits that followed, and maintenance that does not count."""

from datetime import date, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.answers import Answering
from headrace_billing.approvals import store as approvals
from headrace_billing.approvals.approval import Approval, Wanted
from headrace_billing.approvals.documents import Waiting, approval_document
from headrace_billing.bodies import Id
from headrace_billing.callers import AdminOnly, IdempotencyKey, MemberOf
from headrace_billing.contracts import crediting, level_store, store
from headrace_billing.contracts.bodies import Deployment, MaintenanceWindow, Reversal
from headrace_billing.contracts.http import ContractId, Month, fees_of
from headrace_billing.contracts.level_documents import (
    CreditsDocument,
    LevelsDocument,
    WindowDocument,
    WindowsDocument,
    credit_document,
    level_document,
    window_document,
)
from headrace_billing.contracts.level_store import Window
from headrace_billing.contracts.service_level import HOUR
from headrace_billing.contracts.term import month_span
from headrace_billing.errors import BillingError, NotFound
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.intervals import interval, utc
from headrace_billing.invoicing.usage import Span
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["contracts"], dependencies=[AdminOnly], route_class=Answering)


class MaintenanceInvalid(BillingError):
    """Declared beforehand, and with an end after its beginning; or it excuses nothing."""

    code = "maintenance_invalid"


@router.get("/v1/contracts/{contract_id}/service-levels")
async def show_service_levels(contract_id: ContractId, parts: PartsOf, month: Month) -> LevelsDocument:
    """What the month attained, by the requests known now, and what it credits; preliminary while it runs."""
    of = date.fromisoformat(f"{month}-01")
    async with parts.database.snapshot() as session:
        contract = await store.read(session, contract_id)
        fees = await fees_of(session, contract, of)
        span = month_span(of)
        until = Span(span.start, min(span.end, max(_hour(parts.now()), _next_hour(span.start))))
        found = await crediting.assess_levels(
            session, contract, contract.terms_of_month(of), fees, span=until
        )
        items = [
            level_document(
                one,
                minutes=await level_store.minutes(session, contract.organization, one.level, until),
                windows=await level_store.windows(session, one.level.deployment, until),
            )
            for one in found
        ]
    return {"month": month, "preliminary": until.end < span.end, "items": items}


@router.get("/v1/contracts/{contract_id}/service-credits")
async def list_service_credits(contract_id: ContractId, parts: PartsOf) -> CreditsDocument:
    async with parts.database.begin() as session:
        await store.read(session, contract_id)
        found = await level_store.credits_of(session, contract_id)
    return {"items": [credit_document(credit) for credit in found]}


@router.post(
    "/v1/contracts/{contract_id}/service-credits/{credit_id}/reverse", status_code=HTTPStatus.ACCEPTED
)
async def reverse_service_credit(
    contract_id: ContractId,
    credit_id: Id,
    body: Reversal,
    *,
    caller: MemberOf,
    parts: PartsOf,
    idempotency_key: IdempotencyKey,
) -> Waiting:
    """Waits for a second member, whatever the amount; then the month is assessed anew by the figures of that time."""
    at, once = parts.now(), {"scope": f"reverse {credit_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer: Waiting | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            contract = await store.read(session, contract_id)
            credit = await level_store.credit_of(session, credit_id)
            if credit is None or credit.contract != contract_id:
                raise NotFound("service credit", credit_id)
            if credit.reversed_at is not None:
                raise crediting.AlreadyReversed(credit_id)
            wanted = Wanted(
                operation="reverse_service_credit",
                org=contract.organization,
                subject=credit_id,
                currency=contract.currency,
                amount_nanos=credit.nanos,
                request={"contract": contract_id},
                reason=body.reason,
            )
            approval = await approvals.ask(session, wanted, by=caller.member.id, at=at)
            answer = {"approval": approval_document(approval, now=at)}
            await remember(session, **once, answer=answer)
    return answer


async def reverse_as_agreed(
    session: AsyncSession, approval: Approval, _: str, at: datetime
) -> dict[str, Any]:
    """Takes back what waited for a second member. Raises what the request would raise now."""
    contract = await store.lock(session, approval.request["contract"])
    credit = await crediting.reverse(session, contract, approval.subject, now=at)
    looks = await store.looks(session, contract.id)
    await store.look_again(
        session, contract.id, store.Looks(min(looks.dues_at, at), min(looks.levels_at, at))
    )
    return {"service_credit": credit.id, "reversed_at": at.isoformat()}


@router.post("/v1/maintenance-windows", status_code=201)
async def declare_maintenance(
    body: MaintenanceWindow, parts: PartsOf, idempotency_key: IdempotencyKey
) -> WindowDocument:
    """Of a deployment, before it begins: it counts in no service level."""
    at, once = parts.now(), {"scope": "maintenance", "key": idempotency_key}
    start, end = utc(body.start), utc(body.end)
    if not at < start < end:
        raise MaintenanceInvalid("A window is declared before it begins, and ends after that.")
    interval(_hour(start), _next_hour(end))
    window = Window(new_id("mwn", at), body.deployment, Span(start, end), body.reason, at)
    async with parts.database.begin() as session:
        answer: WindowDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is None:
            await level_store.declare(session, window)
            answer = window_document(window)
            await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/maintenance-windows")
async def list_maintenance(parts: PartsOf, deployment: Deployment, month: Month) -> WindowsDocument:
    span = month_span(date.fromisoformat(f"{month}-01"))
    async with parts.database.begin() as session:
        found = await level_store.windows(session, deployment, span)
    return {"items": [window_document(window) for window in found]}


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _next_hour(at: datetime) -> datetime:
    return _hour(at) + HOUR
