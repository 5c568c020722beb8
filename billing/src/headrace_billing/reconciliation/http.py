"""The seller's routes for reconciliation: the report, and the declaration of what can't be found any more."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, StringConstraints

from headrace_billing.answers import Answering
from headrace_billing.bodies import PAGE_MAX, Body, Id, Name
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.errors import InvalidRequest
from headrace_billing.idempotency import recall, remember
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.payments.access import PaymentsUnavailable
from headrace_billing.payments.reconciling import reconcile_payments
from headrace_billing.payments.till import Till
from headrace_billing.reconciliation import looks_store, losses, settling, store
from headrace_billing.reconciliation.documents import (
    LossDocument,
    ReconciliationDocument,
    RequestDocument,
    SettlementDocument,
    StagesDocument,
)
from headrace_billing.reconciliation.jobs import look_around
from headrace_billing.reconciliation.losses import Loss
from headrace_billing.reconciliation.reconciling import reconcile
from headrace_billing.reconciliation.report import BEGINNING, Scope, sides_document, worse
from headrace_billing.reconciliation.request import Graces, Status, compare
from headrace_billing.reconciliation.settling import Matter, Settlement
from headrace_billing.reconciliation.stage import documents
from headrace_billing.reconciliation.store import Request
from headrace_billing.reconciliation.stripe_stage import NOT_USED, stripe_stage

router = APIRouter(tags=["reconciliation"], dependencies=[AdminOnly], route_class=Answering)

# The clocks of a gateway and of billing need not agree to the second.
CLOCK_SKEW = timedelta(minutes=5)
GRACES = Graces()

AttemptId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]


class NewLoss(Body):
    attempt: AttemptId
    reason: Name
    declared_by: Name
    confirmed_by: Name


@router.get("/v1/reconciliation")
async def show_reconciliation(
    parts: PartsOf,
    *,
    organization: Id | None = None,
    start: AwareDatetime | None = None,
    end: AwareDatetime | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=0, le=PAGE_MAX)] = PAGE_MAX,
) -> ReconciliationDocument:
    """Everything until now, unless told otherwise. `requests` is a page, newest first; `next` goes into `before`."""
    now = parts.now()
    scope = Scope(
        organization, (start or BEGINNING).astimezone(UTC), (end or now + CLOCK_SKEW).astimezone(UTC)
    )
    if scope.start >= scope.end:
        raise InvalidRequest("start: must be before end.")
    async with parts.database.snapshot() as session:
        report = await reconcile(session, scope, now=now, graces=GRACES)
        page = await store.page(session, scope, before=before, limit=limit)
    return {
        **report.document(),
        "requests": [_row(request, now=now) for request in page],
        "next": page[-1].billed.request_id if page and len(page) == limit else None,
    }


@router.get("/v1/reconciliation/stages")
async def show_stages(parts: PartsOf) -> StagesDocument:
    """What the last look at each stage saw, from the engine to Stripe, each with the time that it is as of."""
    return await _stages(parts)


@router.post("/v1/reconciliation/looks")
async def look_at_stages(parts: PartsOf) -> StagesDocument:
    """Looks at every stage now, and answers as GET /v1/reconciliation/stages. Changes nothing else."""
    now = parts.now()
    await look_around(parts.database, now=now)
    if parts.stripe is not None:
        # Where Stripe does not answer the comparison before stands, with its time.
        with suppress(PaymentsUnavailable):
            await reconcile_payments(Till(parts.database, parts.valkey, parts.stripe), now=now)
    return await _stages(parts)


async def _stages(parts: Parts) -> StagesDocument:
    now = parts.now()
    async with parts.database.begin() as session:
        stages = documents(await looks_store.looks(session))
        if stages:
            stages.append(await stripe_stage(session, used=parts.stripe is not None, now=now))
    status = Status.GREEN
    for stage in stages:
        if stage["status"] != NOT_USED:
            status = worse(status, Status(stage["status"]))
    return {"status": status, "at": now.isoformat(), "stages": stages}


class NewSettlement(Body):
    kind: Matter
    id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]
    """As `unreconciled` names it."""
    reason: Name
    declared_by: Name
    confirmed_by: Name


@router.post("/v1/reconciliation/settlements", status_code=201)
async def settle_matter(
    body: NewSettlement, parts: PartsOf, idempotency_key: IdempotencyKey
) -> SettlementDocument:
    """The books stay as they are: of a conflict the first event counts, and what was quarantined is charged to nobody."""
    at = parts.now()
    once = {"scope": "settlements", "key": idempotency_key}
    async with parts.database.begin() as session:
        known: SettlementDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        await settling.settle(
            session,
            Settlement(body.kind, body.id, body.reason, body.declared_by, body.confirmed_by, at),
        )
        answer: SettlementDocument = {
            "kind": body.kind,
            "id": body.id,
            "reason": body.reason,
            "declared_by": body.declared_by,
            "confirmed_by": body.confirmed_by,
            "declared_at": at.isoformat(),
        }
        await remember(session, **once, answer=answer)
    return answer


@router.post("/v1/reconciliation/losses", status_code=201)
async def declare_loss(body: NewLoss, parts: PartsOf, idempotency_key: IdempotencyKey) -> LossDocument:
    """Uncharged and reported: an invoice can be closed again, and the tokens stay on record as `declared_lost`."""
    at = parts.now()
    once = {"scope": "losses", "key": idempotency_key}
    async with parts.database.begin() as session:
        known: LossDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        loss = Loss(body.attempt, body.reason, body.declared_by, body.confirmed_by, at)
        records = await losses.declare(session, loss)
        answer: LossDocument = {
            "attempt": body.attempt,
            "reason": body.reason,
            "declared_by": body.declared_by,
            "confirmed_by": body.confirmed_by,
            "declared_at": at.isoformat(),
            "engine_records": records,
        }
        await remember(session, **once, answer=answer)
    return answer


def _row(request: Request, *, now: datetime) -> RequestDocument:
    comparison = compare(request.billed, request.records, now=now, graces=GRACES)
    billed = request.billed
    return {
        "request_id": billed.request_id,
        "organization": request.organization,
        "received_at": request.received_at.isoformat(),
        "disposition": request.disposition,
        "grade": billed.grade.name.lower(),
        "ending": billed.ending,
        "attempts": billed.attempts,
        "billed_input": billed.tokens.input,
        "billed_output": billed.tokens.output,
        "engine_input": comparison.yielded.input,
        "engine_output": comparison.yielded.output,
        "differences": {name: sides_document(tokens) for name, tokens in comparison.differences.items()},
        "status": comparison.status,
        "reason": comparison.reason,
    }
