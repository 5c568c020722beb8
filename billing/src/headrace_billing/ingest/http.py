"""The side doors for gateways and engines: usage that the stream lost, and what replicas yielded."""

import msgspec
import structlog
from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.callers import MachineOnly
from headrace_billing.errors import InvalidRequest
from headrace_billing.ingest import engine_records, publish
from headrace_billing.ingest.arrival import Arrival, read
from headrace_billing.ingest.batch import Ingested, ingest
from headrace_billing.parts import PartsOf
from headrace_billing.valkey import ValkeyError
from headrace_contracts import channels
from headrace_contracts.engine import decode_records
from headrace_contracts.ingest import EVENTS_MAX, EventResult, UsageEventReply

log = structlog.get_logger()
router = APIRouter(tags=["ingest"], dependencies=[MachineOnly], prefix="/internal/v1", route_class=Answering)


class StoredDocument(TypedDict):
    stored: int


class RawEvents(msgspec.Struct):
    """`UsageEventBatch` with its events unread: one that is bad must not spoil the others."""

    events: list[msgspec.Raw]


decode_raw_events = msgspec.json.Decoder(RawEvents).decode


@router.post("/usage-events")
async def take_usage_events(request: Request, parts: PartsOf) -> Response:
    try:
        events = decode_raw_events(await request.body()).events
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is no batch of usage events: {error}") from error
    if len(events) > EVENTS_MAX:
        raise InvalidRequest(f"events: at most {EVENTS_MAX} at once.")
    arrivals = [read(bytes(event)) for event in events]
    result = await ingest(parts.database, arrivals, source="journal") if arrivals else Ingested()
    try:
        await publish.publish(parts.database, parts.valkey, result)
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", error=type(error).__name__)
    return _json(_reply(arrivals, result))


@router.post("/engine-records")
async def take_engine_records(request: Request, parts: PartsOf) -> StoredDocument:
    """Answers once they are stored; a replica sends a batch until then, which does no harm."""
    try:
        records = decode_records(await request.body()).records
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is no batch of engine records: {error}") from error
    engine_records.check(records)
    async with parts.database.begin() as session:
        await engine_records.keep(session, records)
    return {"stored": len(records)}


def _reply(arrivals: list[Arrival], result: Ingested) -> UsageEventReply:
    return UsageEventReply(
        results=[
            EventResult(
                id=arrival.usage.id if arrival.usage else "",
                grade=int(arrival.usage.event.grade) if arrival.usage else 0,
                outcome=verdict.outcome,
                reason=verdict.reason,
            )
            for arrival, verdict in zip(arrivals, result.verdicts, strict=True)
        ],
        acknowledged={
            channels.journal(producer, boot): sequence for (producer, boot), sequence in result.safe.items()
        },
    )


def _json(reply: UsageEventReply) -> Response:
    return Response(msgspec.json.encode(reply), media_type="application/json")
