"""Plans over the API: published by the seller, seen by everybody who may see prices."""

from fastapi import APIRouter

from headrace_billing.accounts.limited_models import require_priced
from headrace_billing.answers import Answering
from headrace_billing.bodies import Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly
from headrace_billing.parts import PartsOf
from headrace_billing.plans import plan_store
from headrace_billing.plans.definition import PlanBody
from headrace_billing.plans.documents import PlanDocument, plan_document

router = APIRouter(tags=["plans"], dependencies=[AdminOnly], route_class=Answering)


@router.post("/v1/plans", status_code=201)
async def publish_plan(body: PlanBody, parts: PartsOf) -> PlanDocument:
    """A version of a plan, for good. The same once more changes nothing, and anything else needs the next version."""
    async with parts.database.begin() as session:
        await require_priced(session, body.entitlements.limits, plan=True)
        return plan_document(await plan_store.publish(session, body, at=parts.now()))


@router.get("/v1/plans")
async def list_plans(parts: PartsOf, page: PageOf) -> Listed[PlanDocument]:
    async with parts.database.begin() as session:
        found = await plan_store.page(session, after=page.begins_after, limit=page.limit)
    return page_of([plan_document(one) for one in found], page)


@router.get("/v1/plans/{plan_id}")
async def show_plan(plan_id: Id, parts: PartsOf) -> PlanDocument:
    async with parts.database.begin() as session:
        return plan_document(await plan_store.published(session, plan_id))
