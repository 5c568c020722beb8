"""The routes of outside meters: what the seller does with them, and where they report what was used."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request, Response
from typing_extensions import TypedDict

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Listed, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly, bearer
from headrace_billing.errors import BillingError, InvalidRequest, Unauthenticated
from headrace_billing.ids import new_id
from headrace_billing.ingest import publish
from headrace_billing.ingest.batch import Verdict
from headrace_billing.meters import store
from headrace_billing.meters.meter import Meter, new_token, shown_prefix
from headrace_billing.meters.openapi import REPORTED, REPORTS
from headrace_billing.meters.reading import Item, Reading, Refused, read
from headrace_billing.meters.reporting import report
from headrace_billing.parts import PartsOf
from headrace_billing.valkey import ValkeyError
from headrace_contracts.ingest import EventOutcome

log = structlog.get_logger()
router = APIRouter(tags=["meters"], route_class=Answering)

ITEMS_MAX = 1000
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode


class MediaTypeUnsupported(BillingError):
    """Usage comes as CloudEvents in JSON."""

    code = "media_type_unsupported"

    def __init__(self) -> None:
        super().__init__(f"Content-Type must be {ONE} or {BATCH}.")


class MeterDocument(TypedDict):
    id: str
    name: str
    organization: str | None
    prefix: str
    created_at: str
    revoked_at: str | None


class MeterToken(MeterDocument):
    token: str


class MissingDocument(TypedDict):
    first: str
    last: str


class SourceDocument(TypedDict):
    source: str
    received_to: str
    missing: list[MissingDocument]
    gap_since: str | None


class MeterSources(MeterDocument):
    sources: list[SourceDocument]


class NewMeter(Body):
    name: Name
    organization: Id | None = None
    """The one whose usage it may report; without one it may report anybody's."""


@router.post("/v1/meters", status_code=201, dependencies=[AdminOnly])
async def add_meter(body: NewMeter, parts: PartsOf) -> MeterToken:
    """The answer has the token, which is shown this once."""
    at, token = parts.now(), new_token()
    meter = Meter(
        id=new_id("mtr", at),
        name=body.name,
        organization=body.organization,
        prefix=shown_prefix(token),
        created_at=at,
    )
    async with parts.database.begin() as session:
        if body.organization is not None:
            await accounts.organization(session, body.organization)
        await store.add(session, meter, token)
    return {**_document(meter), "token": token}


@router.get("/v1/meters", dependencies=[AdminOnly])
async def list_meters(parts: PartsOf, page: PageOf) -> Listed[MeterDocument]:
    async with parts.database.begin() as session:
        found = await store.page(session, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


@router.get("/v1/meters/{meter_id}", dependencies=[AdminOnly])
async def show_meter(meter_id: Id, parts: PartsOf) -> MeterSources:
    """With each source that numbers its events: how far they came, and which numbers are missing."""
    async with parts.database.begin() as session:
        meter = await store.read(session, meter_id)
        sources = await store.sources(session, meter_id)
    return {
        **_document(meter),
        "sources": [
            {
                "source": one.source,
                "received_to": str(one.contiguous),
                "missing": [{"first": str(first), "last": str(last)} for first, last in one.missing],
                "gap_since": None if one.gap_since is None else one.gap_since.isoformat(),
            }
            for one in sources
        ],
    }


@router.post("/v1/meters/{meter_id}/rotate", dependencies=[AdminOnly])
async def rotate_meter(meter_id: Id, parts: PartsOf) -> MeterToken:
    """A new token, shown this once; the old one ends now. What is sent again is still known."""
    token = new_token()
    async with parts.database.begin() as session:
        meter = await store.rotate(session, meter_id, token)
    return {**_document(meter), "token": token}


@router.post("/v1/meters/{meter_id}/revoke", dependencies=[AdminOnly])
async def revoke_meter(meter_id: Id, parts: PartsOf) -> MeterDocument:
    async with parts.database.begin() as session:
        meter = await store.revoke(session, meter_id, at=parts.now())
    return _document(meter)


async def _meter(request: Request, parts: PartsOf) -> Meter:
    async with parts.database.begin() as session:
        meter = await store.of_token(session, bearer(request))
    if meter is None:
        raise Unauthenticated
    return meter


@router.post("/v1/usage-events", openapi_extra={"requestBody": REPORTS}, responses=REPORTED)
async def report_usage(
    request: Request, parts: PartsOf, meter: Annotated[Meter, Depends(_meter)]
) -> Response:
    """Takes what outside meters counted. By the meter's token; safe to send again, whole or in other batches.

    200 when every event is in the books now; 207 when some are not, and `results` says of each what became of it.
    """
    raws = _events(request.headers.get("content-type", ""), await request.body())
    if len(raws) > ITEMS_MAX:
        raise InvalidRequest(f"At most {ITEMS_MAX} events at once.")
    items = [read(bytes(raw), meter) for raw in raws]
    reported = await report(parts.database, meter, items, now=parts.now())
    try:
        await publish.publish(parts.database, parts.valkey, reported.ingested)
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", error=type(error).__name__)
    results = [_result(*pair) for pair in zip(items, reported.outcomes, strict=True)]
    booked = all(result["outcome"] in BOOKED for result in results)
    content = {
        "results": results,
        "received_to": {source: str(number) for (_, source), number in reported.ingested.safe.items()},
    }
    return Response(
        msgspec.json.encode(content), status_code=200 if booked else 207, media_type="application/json"
    )


def _events(content_type: str, body: bytes) -> Sequence[msgspec.Raw]:
    match content_type.partition(";")[0].strip().lower():
        case "application/cloudevents+json":
            return [msgspec.Raw(body)]
        case "application/cloudevents-batch+json":
            try:
                return decode_batch(body)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise InvalidRequest(f"The body is no array of CloudEvents: {error}") from error
        case _:
            raise MediaTypeUnsupported


BOOKED = frozenset({EventOutcome.ACCEPTED, EventOutcome.DUPLICATE})


def _result(item: Item, outcome: Verdict | Refused) -> dict[str, Any]:
    named = {"id": item.id, "source": item.source}
    if isinstance(outcome, Refused):
        return {**named, "outcome": "refused", "code": outcome.code, "detail": outcome.detail}
    assert isinstance(item.found, Reading), item
    result = {**named, "outcome": outcome.outcome, "event": item.found.request}
    match outcome.outcome:
        case EventOutcome.CONFLICT:
            detail = "This id was reported before with other content, which counts; nothing was changed."
            return {**result, "code": "conflict", "detail": detail}
        case EventOutcome.QUARANTINED:
            detail = f"It could not be booked and is kept aside for the seller to look at: {outcome.reason}"
            return {**result, "code": "quarantined", "detail": detail}
        case _:
            return result


def _document(meter: Meter) -> MeterDocument:
    return {
        "id": meter.id,
        "name": meter.name,
        "organization": meter.organization,
        "prefix": meter.prefix,
        "created_at": meter.created_at.isoformat(),
        "revoked_at": None if meter.revoked_at is None else meter.revoked_at.isoformat(),
    }
