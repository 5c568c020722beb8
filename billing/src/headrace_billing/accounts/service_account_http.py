"""The admin's routes for service accounts."""

import structlog
from fastapi import APIRouter
from typing_extensions import TypedDict

from headrace_billing.accounts import outbox, service_account_store, store
from headrace_billing.accounts.http import PushPending
from headrace_billing.accounts.service_account import ServiceAccount, ServiceAccountStatus
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Listed, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly
from headrace_billing.ids import new_id
from headrace_billing.parts import PartsOf
from headrace_billing.valkey import ValkeyError

log = structlog.get_logger()
router = APIRouter(tags=["accounts"], dependencies=[AdminOnly], route_class=Answering)


class ServiceAccountDocument(TypedDict):
    id: str
    project: str
    name: str
    status: ServiceAccountStatus
    created_at: str
    disabled_at: str | None


class NewServiceAccount(Body):
    project: Id
    name: Name


@router.post("/v1/service-accounts", status_code=201)
async def add_service_account(body: NewServiceAccount, parts: PartsOf) -> ServiceAccountDocument:
    at = parts.now()
    account = ServiceAccount(
        id=new_id("sva", at),
        project=body.project,
        name=body.name,
        status=ServiceAccountStatus.ACTIVE,
        created_at=at,
    )
    async with parts.database.begin() as session:
        await store.project(session, account.project)
        await service_account_store.add(session, account)
    return _document(account)


@router.get("/v1/service-accounts")
async def list_service_accounts(
    parts: PartsOf, page: PageOf, project: Id | None = None
) -> Listed[ServiceAccountDocument]:
    async with parts.database.begin() as session:
        found = await service_account_store.page(
            session, project=project, after=page.begins_after, limit=page.limit
        )
    return page_of([_document(one) for one in found], page)


@router.post("/v1/service-accounts/{account_id}/disable")
async def disable_service_account(account_id: Id, parts: PartsOf) -> ServiceAccountDocument:
    """Answers success only once Valkey has it: from then on no gateway admits any of its keys."""
    async with parts.database.begin() as session:
        places = await service_account_store.disable(session, account_id, at=parts.now())
        account = await service_account_store.read(session, account_id)
    try:
        await outbox.push(parts.database, parts.valkey, places)
    except ValkeyError as error:
        log.warning("disable_not_pushed", account=account_id, error=type(error).__name__)
        raise PushPending(account_id) from error
    return _document(account)


def _document(account: ServiceAccount) -> ServiceAccountDocument:
    return {
        "id": account.id,
        "project": account.project,
        "name": account.name,
        "status": account.status,
        "created_at": account.created_at.isoformat(),
        "disabled_at": None if account.disabled_at is None else account.disabled_at.isoformat(),
    }
