"""Routes for what waits for a second member of the seller's staff, and for the amounts from which on it does."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Path

from headrace_billing.answers import Answering
from headrace_billing.approvals import store
from headrace_billing.approvals.actions import ACTIONS
from headrace_billing.approvals.approval import ApprovalStatus
from headrace_billing.approvals.documents import ApprovalDocument, BoundDocument, Bounds, approval_document
from headrace_billing.bodies import Amount, Body, Currency, Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly, MemberOf
from headrace_billing.errors import NotFound
from headrace_billing.money import currency_of, major, nanos_of
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["approvals"], dependencies=[AdminOnly], route_class=Answering)

ZERO = re.compile(r"0+(\.0+)?")
"""No amount that anybody pays, and a bound all the same."""

OperationName = Annotated[str, Path(pattern=r"^[a-z_]{1,100}$")]


class Bound(Body):
    above: Amount | None
    """What is more needs a second member; "0" makes all of it need one, null nothing."""


@router.get("/v1/approvals")
async def list_approvals(
    parts: PartsOf, page: PageOf, status: Literal["pending"] | None = None
) -> Listed[ApprovalDocument]:
    now = parts.now()
    async with parts.database.begin() as session:
        found = await store.page(
            session,
            pending_at=now if status == "pending" else None,
            after=page.begins_after,
            limit=page.limit,
        )
    return page_of([approval_document(one, now=now) for one in found], page)


@router.get("/v1/approvals/{approval_id}")
async def show_approval(approval_id: Id, parts: PartsOf) -> ApprovalDocument:
    async with parts.database.begin() as session:
        return approval_document(await store.read(session, approval_id), now=parts.now())


@router.post("/v1/approvals/{approval_id}/approve")
async def approve(approval_id: Id, caller: MemberOf, parts: PartsOf) -> ApprovalDocument:
    """Does what was asked for, in the same transaction. The same member may send it again, and nothing is done twice."""
    now = parts.now()
    async with parts.database.begin() as session:
        approval = await store.lock(session, approval_id)
        action = ACTIONS[approval.operation]
        again = approval.status is ApprovalStatus.APPROVED and approval.decided_by == caller.member.id
        if not again:
            approval.check_agreed(by=caller.member.id, token_issued_by=caller.token_issued_by, at=now)
            result = await action.do(session, approval, caller.member.id, now)
            approval = await store.decide(
                session, approval, ApprovalStatus.APPROVED, by=caller.member.id, at=now, result=result
            )
    assert approval.result is not None, approval.id
    await action.tell(parts, approval.result)
    return approval_document(approval, now=now)


@router.post("/v1/approvals/{approval_id}/refuse")
async def refuse(approval_id: Id, caller: MemberOf, parts: PartsOf) -> ApprovalDocument:
    """Nothing is done. Whoever asked for it may take it back this way too."""
    now = parts.now()
    async with parts.database.begin() as session:
        approval = await store.lock(session, approval_id)
        approval.check_open(now)
        refused = await store.decide(session, approval, ApprovalStatus.REFUSED, by=caller.member.id, at=now)
    return approval_document(refused, now=now)


@router.get("/v1/approval-bounds")
async def list_approval_bounds(parts: PartsOf) -> Bounds:
    async with parts.database.begin() as session:
        return {"items": await store.bounds(session)}


@router.put("/v1/approval-bounds/{operation}/{currency}")
async def set_approval_bound(
    operation: OperationName, currency: Currency, body: Bound, parts: PartsOf
) -> BoundDocument:
    if operation not in ACTIONS:
        raise NotFound("operation that takes approvals", operation)
    above = None if body.above is None else 0 if ZERO.fullmatch(body.above) else nanos_of(body.above)
    async with parts.database.begin() as session:
        await store.set_bound(session, operation, currency=currency_of(currency), above_nanos=above)
    return {
        "operation": operation,
        "currency": currency,
        "above": None if above is None else major(above),
    }
