"""The route of the audit log: everything for the seller, its own for an organisation."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, StringConstraints

from headrace_billing.answers import Answering
from headrace_billing.audit import store
from headrace_billing.audit.store import EntryDocument
from headrace_billing.bodies import Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly, MemberOf, OrgMember
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["audit"], dependencies=[AdminOnly], route_class=Answering)

OperationName = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,100}$")]


@router.get("/v1/audit-log")
async def show_audit_log(
    caller: MemberOf,
    parts: PartsOf,
    page: PageOf,
    *,
    organization: Id | None = None,
    actor: Id | None = None,
    operation: OperationName | None = None,
    object: Id | None = None,  # noqa: A002 - the parameter's name in the API
    outcome: Literal["done", "refused"] | None = None,
    start: AwareDatetime | None = None,
    end: AwareDatetime | None = None,
) -> Listed[EntryDocument]:
    """Who did what, or was refused it, in the order of the requests' beginnings. [start, end)."""
    own = caller.org if isinstance(caller, OrgMember) else None
    wanted = store.Wanted(
        org=own or organization,
        actor=actor,
        operation=operation,
        thing=object,
        outcome=outcome,
        start=start,
        end=end,
    )
    async with parts.database.begin() as session:
        found = await store.page(session, wanted, after=page.begins_after, limit=page.limit)
    shown = [store.document(row) for row in found]
    return page_of(shown if own is None else [store.as_customers_see(one) for one in shown], page)
