"""The operators' door for GPU time, and what an organisation or the seller may read of it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import structlog
from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.answers import Answering
from headrace_billing.bodies import PAGE_MAX, PRINTABLE, Id, Listed
from headrace_billing.callers import CallerOf, Customer, MachineOnly
from headrace_billing.errors import Forbidden, InvalidRequest
from headrace_billing.gpu_time import store
from headrace_billing.gpu_time.arrival import NAME_CHARACTERS_MAX, Arrival, Identity, read
from headrace_billing.gpu_time.store import HourDocument, Scope
from headrace_billing.ingest.store import quarantine
from headrace_billing.parts import PartsOf
from headrace_contracts.gpu_time import EVENTS_MAX, GpuTimeReply, GpuTimeResult
from headrace_contracts.ingest import EventOutcome

SOURCE = "gpu_time"
# What is read when no time is given.
DAYS = 31
# Of the names of a deployment, its cluster and its model, and then some.
CURSOR_CHARACTERS_MAX = 4000

DeploymentName = Annotated[
    str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=PRINTABLE)
]

log = structlog.get_logger()
router = APIRouter(tags=["gpu time"], route_class=Answering)


class RawEvents(msgspec.Struct):
    """`GpuTimeBatch` with its events unread: one that is bad must not spoil the others."""

    events: list[msgspec.Raw]


decode_raw_events = msgspec.json.Decoder(RawEvents).decode


@router.post("/internal/v1/gpu-time", dependencies=[MachineOnly])
async def take_gpu_time(request: Request, parts: PartsOf) -> Response:
    """Answers once every event is stored or kept aside; the same batch again does no harm."""
    try:
        events = decode_raw_events(await request.body()).events
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is no batch of GPU time: {error}") from error
    if len(events) > EVENTS_MAX:
        raise InvalidRequest(f"events: at most {EVENTS_MAX} at once.")
    async with parts.database.begin() as session:
        reply = await _take(session, [read(bytes(event)) for event in events])
    return Response(msgspec.json.encode(reply), media_type="application/json")


@router.get("/v1/gpu-time")
async def show_gpu_time(
    caller: CallerOf,
    parts: PartsOf,
    *,
    organization: Id | None = None,
    deployment: DeploymentName | None = None,
    start: AwareDatetime | None = None,
    end: AwareDatetime | None = None,
    cursor: Annotated[str | None, Query(max_length=CURSOR_CHARACTERS_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
) -> Listed[HourDocument]:
    """By hour and deployment, the last month unless told otherwise; `next` is the next page's `cursor`. A customer sees its own."""
    if isinstance(caller, Customer):
        if caller.scopes is not None:
            raise Forbidden(
                "GPU time is the whole organisation's, and a scope its project's: use a key without scopes."
            )
        if organization not in (None, caller.org):
            raise Forbidden("A customer reads the GPU time of its own organisation.")
        organization = caller.org
    until = (end or parts.now() + timedelta(hours=1)).astimezone(UTC)
    since = (start or until - timedelta(days=DAYS)).astimezone(UTC)
    if since >= until:
        raise InvalidRequest("start: must be before end.")
    scope = Scope(organization, deployment, _hour(since), until)
    async with parts.database.snapshot() as session:
        page = await store.hours(session, scope, after=cursor, limit=limit)
    return {"items": page.items, "next": page.cursor}


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


async def _take(session: AsyncSession, arrivals: list[Arrival]) -> GpuTimeReply:
    named = {arrival.event.org for arrival in arrivals if arrival.event is not None and arrival.event.org}
    organizations = await store.known_organizations(session, named)
    first: dict[Identity, Arrival] = {}
    for arrival in arrivals:
        if _refusal(arrival, organizations) is None:
            first.setdefault(arrival.identity, arrival)
    inserted = await store.insert(session, list(first.values())) if first else set()
    stored = await store.stored_hashes(session, {pod for pod, _, _ in first}) if first else {}
    results = []
    for arrival in arrivals:
        refusal = _refusal(arrival, organizations)
        if refusal is not None:
            log.error("gpu_time_quarantined", reason=refusal)
            await quarantine(session, [(arrival.raw, refusal)], source=SOURCE)
            results.append(_result(arrival, EventOutcome.QUARANTINED, refusal))
        elif first[arrival.identity] is arrival and arrival.identity in inserted:
            results.append(_result(arrival, EventOutcome.ACCEPTED))
        elif stored[arrival.identity] == arrival.payload_hash:
            results.append(_result(arrival, EventOutcome.DUPLICATE))
        else:
            log.error("gpu_time_conflict", pod=arrival.identity[0])
            await store.keep_conflict(session, arrival)
            results.append(_result(arrival, EventOutcome.CONFLICT))
    return GpuTimeReply(results=results)


def _refusal(arrival: Arrival, organizations: set[str]) -> str | None:
    if arrival.event is None:
        return arrival.refusal
    if arrival.event.org is not None and arrival.event.org not in organizations:
        return "unknown_organization"
    return None


def _result(arrival: Arrival, outcome: EventOutcome, reason: str | None = None) -> GpuTimeResult:
    event = arrival.event
    return GpuTimeResult(
        pod=event.pod if event else "", hour_us=event.hour_us if event else 0, outcome=outcome, reason=reason
    )
