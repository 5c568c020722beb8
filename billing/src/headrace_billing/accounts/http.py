"""The admin's routes for organisations, projects and keys."""

from datetime import UTC, datetime

import structlog
from fastapi import APIRouter
from pydantic import AwareDatetime, Field

from headrace_billing.accounts import outbox, service_account_store, store
from headrace_billing.accounts.access_bodies import Cidrs, FallbackModels, Models, Scopes, Weight
from headrace_billing.accounts.documents import (
    KeyDocument,
    NewKeyDocument,
    OrganizationDocument,
    ProjectDocument,
    key_document,
    organization_document,
    project_document,
)
from headrace_billing.accounts.key import (
    Key,
    Organization,
    Project,
    new_secret,
    new_signing_secret,
    secret_sha256,
    shown_prefix,
)
from headrace_billing.accounts.limit_bodies import Limits, limits_of
from headrace_billing.accounts.limited_models import require_priced
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Currency, Id, Listed, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly
from headrace_billing.errors import BillingError, ExpiryInThePast, InvalidRequest
from headrace_billing.ids import new_id
from headrace_billing.ledger import spendable, wallets
from headrace_billing.money import currency_of
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.valkey import ValkeyError
from headrace_contracts.access import KeyStatus, Priority
from headrace_contracts.usage import Disposition

log = structlog.get_logger()
router = APIRouter(tags=["accounts"], dependencies=[AdminOnly], route_class=Answering)


class PushPending(BillingError):
    """Recorded, but not yet known to every gateway."""

    code = "push_pending"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key} is changed in the books, but gateways could not be told yet. A revocation may be sent again, "
            "and succeeds once they refuse the key; other changes reach them when they can be reached."
        )


class NewOrganization(Body):
    name: Name
    models: Models | None = None
    """What its keys may name; null means all."""
    limits: Limits = ()
    """Counted over all of its projects."""
    weight: Weight = 1
    """Its share of a deployment for which requests wait, beside the others' shares."""


class NewProject(Body):
    organization: Id
    name: Name
    currency: Currency
    disposition: Disposition
    wallet: Id | None = None
    """One of the organisation's to share; null opens its own."""
    models: Models | None = None
    allowed_cidrs: Cidrs | None = None
    limits: Limits = ()
    fallback_models: FallbackModels = Field(default_factory=list)


class NewKey(Body):
    project: Id
    name: Name
    models: Models | None = None
    scopes: Scopes | None = None
    """What it may be used for; null means everything."""
    allowed_cidrs: Cidrs | None = None
    limits: Limits = ()
    expires_at: AwareDatetime | None = None
    service_account: Id | None = None
    """Whose it is to be, if a program's."""
    signs_tokens: bool = False
    """For Z.ai's older clients, which sign a token with their key instead of sending it."""
    priority: Priority = Priority.INTERACTIVE
    fallback_models: FallbackModels | None = None
    """Null means its project's."""


@router.post("/v1/organizations", status_code=201)
async def add_organization(body: NewOrganization, parts: PartsOf) -> OrganizationDocument:
    at = parts.now()
    organization = Organization(
        id=new_id("org", at),
        name=body.name,
        models=body.models,
        limits=limits_of(body.limits),
        weight=body.weight,
        created_at=at,
    )
    async with parts.database.begin() as session:
        await require_priced(session, body.limits)
        await store.add_organization(session, organization)
    return organization_document(organization)


@router.get("/v1/organizations")
async def list_organizations(parts: PartsOf, page: PageOf) -> Listed[OrganizationDocument]:
    async with parts.database.begin() as session:
        found = await store.organizations(session, after=page.begins_after, limit=page.limit)
    return page_of([organization_document(one) for one in found], page)


@router.get("/v1/organizations/{organization_id}")
async def show_organization(organization_id: Id, parts: PartsOf) -> OrganizationDocument:
    """With the `version` that a change of it names in If-Match."""
    async with parts.database.begin() as session:
        return organization_document(await store.organization(session, organization_id))


@router.post("/v1/projects", status_code=201)
async def add_project(body: NewProject, parts: PartsOf) -> ProjectDocument:
    if body.disposition not in (Disposition.PREPAID, Disposition.PAYG):
        raise InvalidRequest("disposition: a project pays as `prepaid` or `payg`.")
    at = parts.now()
    project = Project(
        id=new_id("prj", at),
        org=body.organization,
        name=body.name,
        currency=currency_of(body.currency),
        disposition=body.disposition,
        wallet=body.wallet or new_id("wal", at),
        status=KeyStatus.ACTIVE,
        models=body.models,
        allowed_cidrs=body.allowed_cidrs,
        limits=limits_of(body.limits),
        fallback_models=body.fallback_models,
        created_at=at,
    )
    async with parts.database.begin() as session:
        await store.organization(session, project.org)
        await require_priced(session, body.limits)
        if body.wallet is None:
            await wallets.open_wallet(
                session, wallet=project.wallet, org=project.org, currency=project.currency, at=at
            )
        else:
            await wallets.require(session, project.wallet, org=project.org, currency=project.currency)
            # Credit that was its only project's alone is no longer everybody's of the wallet.
            await wallets.touch(session, project.wallet)
        record = await store.add_project(session, project)
    await _push_soon(parts, record, wallet=project.wallet)
    return project_document(project)


@router.get("/v1/projects")
async def list_projects(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[ProjectDocument]:
    async with parts.database.begin() as session:
        found = await store.projects(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([project_document(one) for one in found], page)


@router.get("/v1/projects/{project_id}")
async def show_project(project_id: Id, parts: PartsOf) -> ProjectDocument:
    """With the `version` that a change of it names in If-Match."""
    async with parts.database.begin() as session:
        return project_document(await store.project(session, project_id))


@router.post("/v1/keys", status_code=201)
async def add_key(body: NewKey, parts: PartsOf) -> NewKeyDocument:
    """The answer holds the secret, this once."""
    at, secret = parts.now(), secret_for(parts, signs=body.signs_tokens)
    key = Key(
        id=new_id("key", at),
        project=body.project,
        name=body.name,
        secret_sha256=secret_sha256(secret),
        prefix=shown_prefix(secret),
        status=KeyStatus.ACTIVE,
        models=body.models,
        scopes=body.scopes,
        allowed_cidrs=body.allowed_cidrs,
        limits=limits_of(body.limits),
        expires_at=expiry_of(body.expires_at, now=at),
        service_account=body.service_account,
        priority=body.priority,
        fallback_models=body.fallback_models,
        created_at=at,
    )
    async with parts.database.begin() as session:
        await store.project(session, key.project)
        await require_priced(session, body.limits)
        if key.service_account is not None:
            await service_account_store.take_on_key(session, key.service_account, project=key.project)
        record = await store.add_key(session, key)
    await _push_soon(parts, record)
    return {**key_document(key), "secret": secret}


def expiry_of(wanted: datetime | None, *, now: datetime) -> datetime | None:
    """Raises `ExpiryInThePast`: a key is ended by its revocation, which says so of itself."""
    if wanted is None:
        return None
    if wanted <= now:
        raise ExpiryInThePast
    try:
        return wanted.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest("expires_at: no calendar counts that far; null is for ever.") from error


def secret_for(parts: Parts, *, signs: bool) -> str:
    """A new secret of the kind that a key wants."""
    if not signs:
        return new_secret()
    if parts.token_signing_secret is None:
        raise InvalidRequest(
            "signs_tokens: no such keys are made here. Set HEADRACE_BILLING_TOKEN_SIGNING_SECRET, and the gateways' "
            "HEADRACE_GATEWAY_TOKEN_SIGNING_SECRET to the same, or leave it out."
        )
    return new_signing_secret(parts.token_signing_secret)


@router.get("/v1/keys")
async def list_keys(
    parts: PartsOf, page: PageOf, project: Id | None = None, service_account: Id | None = None
) -> Listed[KeyDocument]:
    async with parts.database.begin() as session:
        found = await store.keys(
            session,
            project=project,
            service_account=service_account,
            after=page.begins_after,
            limit=page.limit,
        )
    return page_of([key_document(one) for one in found], page)


@router.get("/v1/keys/{key_id}")
async def show_key(key_id: Id, parts: PartsOf) -> KeyDocument:
    """With the `version` that a change of it names in If-Match."""
    async with parts.database.begin() as session:
        return key_document(await store.key(session, key_id))


@router.post("/v1/keys/{key_id}/revoke")
async def revoke_key(key_id: Id, parts: PartsOf) -> KeyDocument:
    """Answers success only once Valkey has it: from then on no gateway admits the key."""
    async with parts.database.begin() as session:
        key, records = await store.revoke_key(session, key_id, at=parts.now())
    try:
        await outbox.push(parts.database, parts.valkey, records)
    except ValkeyError as error:
        log.warning("revoke_not_pushed", key=key.id, error=type(error).__name__)
        raise PushPending(key.id) from error
    return key_document(key)


async def _push_soon(parts: Parts, record: str, *, wallet: str | None = None) -> None:
    """At once if Valkey answers, so that what was made can be used; otherwise the worker does it."""
    try:
        await outbox.push(parts.database, parts.valkey, [record])
        if wallet is not None:
            await spendable.push(parts.database, parts.valkey, [wallet])
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", record=record.rpartition(":")[0], error=type(error).__name__)
