"""The seller's routes for usage that came too late, and for numbers that will never come. Both take two people."""

from datetime import UTC, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, StringConstraints
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.bodies import PRINTABLE, Body, Id, Listed, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.intervals import utc
from headrace_billing.meters import gap_store, store
from headrace_billing.meters.backfill import LATE_WINDOW, Backfill, check
from headrace_billing.meters.gap_store import Gap
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["meters"], dependencies=[AdminOnly], route_class=Answering)

OPEN_DAYS_DEFAULT = 7
SEQUENCES_MAX = 2**53


class BackfillDocument(TypedDict):
    id: str
    meter: str
    start: str
    end: str
    reason: str
    requested_by: str
    approved_by: str
    opened_at: str
    closes_at: str


class FilledDocument(TypedDict):
    organization: str
    events: int
    tokens: int


class BackfillHistory(BackfillDocument):
    filled: list[FilledDocument]


class GapDocument(TypedDict):
    meter: str
    source: str
    first: int
    last: int
    reason: str
    declared_by: str
    confirmed_by: str
    declared_at: str


class NewBackfill(Body):
    meter: Id
    start: AwareDatetime
    end: AwareDatetime
    """Exclusive."""
    reason: Name
    requested_by: Name
    approved_by: Name
    open_days: Annotated[int, Field(ge=1, le=14)] = OPEN_DAYS_DEFAULT


@router.post("/v1/backfills", status_code=201)
async def open_backfill(
    body: NewBackfill, parts: PartsOf, idempotency_key: IdempotencyKey
) -> BackfillDocument:
    """From now on the meter may report usage of that time, though it is older than 35 days."""
    at = parts.now()
    once = {"scope": "backfills", "key": idempotency_key}
    backfill = Backfill(
        id=new_id("bkf", at),
        meter=body.meter,
        start=utc(body.start),
        end=utc(body.end),
        reason=body.reason,
        requested_by=body.requested_by,
        approved_by=body.approved_by,
        opened_at=at,
        closes_at=at + timedelta(days=body.open_days),
    )
    check(backfill)
    async with parts.database.begin() as session:
        known: BackfillDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        await store.read(session, body.meter)
        await store.add_backfill(session, backfill)
        answer = _document(backfill)
        await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/backfills")
async def list_backfills(parts: PartsOf, page: PageOf) -> Listed[BackfillDocument]:
    async with parts.database.begin() as session:
        found = await store.backfills(session, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


@router.get("/v1/backfills/{backfill_id}")
async def show_backfill(backfill_id: Id, parts: PartsOf) -> BackfillHistory:
    """With what came by it, for whoever looks afterwards at what two people agreed to."""
    async with parts.database.begin() as session:
        backfill = await store.backfill(session, backfill_id)
        filled = await store.filled(session, backfill, late_days=LATE_WINDOW.days)
    return {
        **_document(backfill),
        "filled": [
            {"organization": one.organization, "events": one.events, "tokens": one.tokens} for one in filled
        ],
    }


class NewGap(Body):
    source: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)]
    first: Annotated[int, Field(ge=1, le=SEQUENCES_MAX)]
    last: Annotated[int, Field(ge=1, le=SEQUENCES_MAX)]
    reason: Name
    declared_by: Name
    confirmed_by: Name


@router.post("/v1/meters/{meter_id}/gaps", status_code=201)
async def declare_gap(
    meter_id: Id, body: NewGap, parts: PartsOf, idempotency_key: IdempotencyKey
) -> GapDocument:
    """Nothing will come for these numbers; nobody is charged for them, and that stays on record."""
    at = parts.now()
    once = {"scope": f"gaps:{meter_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        known: GapDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        gap = Gap(
            meter_id, body.source, body.first, body.last, body.reason, body.declared_by, body.confirmed_by, at
        )
        await gap_store.declare(session, gap)
        answer: GapDocument = {
            "meter": meter_id,
            "source": gap.source,
            "first": gap.first,
            "last": gap.last,
            "reason": gap.reason,
            "declared_by": gap.declared_by,
            "confirmed_by": gap.confirmed_by,
            "declared_at": at.isoformat(),
        }
        await remember(session, **once, answer=answer)
    return answer


def _document(backfill: Backfill) -> BackfillDocument:
    return {
        "id": backfill.id,
        "meter": backfill.meter,
        "start": backfill.start.astimezone(UTC).isoformat(),
        "end": backfill.end.astimezone(UTC).isoformat(),
        "reason": backfill.reason,
        "requested_by": backfill.requested_by,
        "approved_by": backfill.approved_by,
        "opened_at": backfill.opened_at.isoformat(),
        "closes_at": backfill.closes_at.isoformat(),
    }
