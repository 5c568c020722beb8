"""Routes for webhook endpoints: the seller's, which hear of everybody, and those of an organisation."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, StringConstraints, model_validator
from typing_extensions import TypedDict

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import PRINTABLE, Body, Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly
from headrace_billing.errors import BillingError
from headrace_billing.ids import new_id
from headrace_billing.parts import PartsOf
from headrace_billing.webhooks import store
from headrace_billing.webhooks.endpoint import (
    URL_CHARACTERS_MAX,
    Endpoint,
    EndpointDisabled,
    EndpointStatus,
    check_url,
)
from headrace_billing.webhooks.event import EventType
from headrace_billing.webhooks.store import DeliveryDocument

ENDPOINTS_MAX = 20
"""Of one organisation: each multiplies what is sent."""
REPLAY_MAX = 10_000
GRACE_SECONDS_MAX = 7 * 86_400

router = APIRouter(tags=["webhooks"], dependencies=[AdminOnly], route_class=Answering)

Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARACTERS_MAX, pattern=PRINTABLE)]
Description = Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)]
Events = Annotated[list[EventType], Field(min_length=1, max_length=len(EventType))]


class TooManyEndpoints(BillingError):
    """More than one organisation may have."""

    code = "too_many_endpoints"

    def __init__(self) -> None:
        super().__init__(f"There are {ENDPOINTS_MAX} endpoints: remove one.")


class EndpointDocument(TypedDict):
    id: str
    organization: str | None
    url: str
    description: str
    events: Sequence[str] | None
    status: EndpointStatus
    disabled_reason: str | None
    failing_since: str | None
    old_secret_until: str | None
    created_at: str


class SecretDocument(EndpointDocument):
    secret: str


class ReplayDocument(TypedDict):
    endpoint: str
    messages: int


class NewEndpoint(Body):
    organization: Id | None = None
    """Null makes one of the seller's, which hears of every organisation."""
    url: Url
    description: Description = ""
    events: Events | None = None
    """Null means all."""


class EndpointChange(Body):
    """What is left out stays."""

    url: Url | None = None
    description: Description | None = None
    events: Events | None = None
    status: EndpointStatus | None = None


class SecretRotation(Body):
    grace_seconds: Annotated[int, Field(ge=0, le=GRACE_SECONDS_MAX)] = 86_400
    """So long messages are signed with the old secret as well."""


class Replay(Body):
    message: Id | None = None
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None

    @model_validator(mode="after")
    def _something(self) -> "Replay":
        if (self.message is None) == (self.start is None):
            msg = "name either a message or the start of a time"
            raise ValueError(msg)
        return self


@router.post("/v1/webhook-endpoints", status_code=201)
async def add_webhook_endpoint(body: NewEndpoint, parts: PartsOf) -> SecretDocument:
    """The answer holds the secret that messages are signed with, this once."""
    at = parts.now()
    endpoint = Endpoint(
        id=new_id("whe", at),
        org=body.organization,
        url=check_url(body.url, allowed=parts.webhook_networks),
        description=body.description,
        events=None if body.events is None else [*dict.fromkeys(body.events)],
        status=EndpointStatus.ENABLED,
        disabled_reason=None,
        secret_number=1,
        old_secret_until=None,
        failing_since=None,
        created_at=at,
    )
    async with parts.database.begin() as session:
        if endpoint.org is not None:
            await accounts.organization(session, endpoint.org)
        if await store.count(session, org=endpoint.org) >= ENDPOINTS_MAX:
            raise TooManyEndpoints
        await store.add(session, endpoint)
    return {**_document(endpoint), "secret": endpoint.secret(parts.signing_key)}


@router.get("/v1/webhook-endpoints")
async def list_webhook_endpoints(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[EndpointDocument]:
    """Of an organisation, or the seller's where none is named."""
    async with parts.database.begin() as session:
        found = await store.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


@router.patch("/v1/webhook-endpoints/{endpoint_id}")
async def change_webhook_endpoint(endpoint_id: Id, body: EndpointChange, parts: PartsOf) -> EndpointDocument:
    """Enabling it makes what waits due at once."""
    given = body.model_fields_set
    async with parts.database.begin() as session:
        before = await store.lock(session, endpoint_id)
        change = store.Change(
            url=before.url if body.url is None else check_url(body.url, allowed=parts.webhook_networks),
            description=before.description if body.description is None else body.description,
            events=[*body.events] if body.events else None if "events" in given else before.events,
            status=body.status or before.status,
        )
        await store.change(session, endpoint_id, change, at=parts.now())
        return _document(await store.read(session, endpoint_id))


@router.post("/v1/webhook-endpoints/{endpoint_id}/rotate-secret")
async def rotate_webhook_secret(endpoint_id: Id, body: SecretRotation, parts: PartsOf) -> SecretDocument:
    """The answer holds the new secret, this once; the one before the last one ends now."""
    until = parts.now() + timedelta(seconds=body.grace_seconds)
    async with parts.database.begin() as session:
        await store.lock(session, endpoint_id)
        endpoint = await store.rotate_secret(session, endpoint_id, old_until=until)
    return {**_document(endpoint), "secret": endpoint.secret(parts.signing_key)}


@router.post("/v1/webhook-endpoints/{endpoint_id}/replay")
async def replay_webhooks(endpoint_id: Id, body: Replay, parts: PartsOf) -> ReplayDocument:
    """Sends one message, or those of [start, end), once more with the ids that they had."""
    async with parts.database.begin() as session:
        endpoint = await store.lock(session, endpoint_id)
        if endpoint.status is EndpointStatus.DISABLED:
            raise EndpointDisabled(endpoint_id)
        number = await store.replay(
            session,
            endpoint,
            message=body.message,
            start=body.start,
            end=body.end,
            at=parts.now(),
            limit=REPLAY_MAX,
        )
    return {"endpoint": endpoint_id, "messages": number}


@router.post("/v1/webhook-endpoints/{endpoint_id}/remove")
async def remove_webhook_endpoint(endpoint_id: Id, parts: PartsOf) -> EndpointDocument:
    """Nothing is sent there any more; what was sent stays told."""
    async with parts.database.begin() as session:
        endpoint = await store.lock(session, endpoint_id)
        await store.remove(session, endpoint_id, at=parts.now())
    return _document(endpoint)


@router.get("/v1/webhook-endpoints/{endpoint_id}/deliveries")
async def list_webhook_deliveries(endpoint_id: Id, parts: PartsOf, page: PageOf) -> Listed[DeliveryDocument]:
    """Every message, with what each attempt was answered."""
    async with parts.database.begin() as session:
        await store.read(session, endpoint_id)
        found = await store.deliveries(session, endpoint_id, after=page.begins_after, limit=page.limit)
    return page_of(found, page)


def _document(endpoint: Endpoint) -> EndpointDocument:
    return {
        "id": endpoint.id,
        "organization": endpoint.org,
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
        "status": endpoint.status,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": None if endpoint.failing_since is None else endpoint.failing_since.isoformat(),
        "old_secret_until": (
            None if endpoint.old_secret_until is None else endpoint.old_secret_until.isoformat()
        ),
        "created_at": endpoint.created_at.isoformat(),
    }
