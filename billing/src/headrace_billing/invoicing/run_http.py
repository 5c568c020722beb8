"""The seller's routes for invoice runs: drafts with a grace for late events, then final, with progress."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, Field
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Currency, Id, Listed, PageOf
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.intervals import utc
from headrace_billing.invoicing import party_store, run_store
from headrace_billing.invoicing.closing import draft_of
from headrace_billing.invoicing.cursor import after_of, cursor_of
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.invoice import PeriodInvalid
from headrace_billing.invoicing.orders import Order
from headrace_billing.invoicing.party_store import DEFAULT_SELLER
from headrace_billing.invoicing.run_store import DraftPlace, DraftState, Run
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly], route_class=Answering)

GRACE_HOURS_DEFAULT = 6
GRACE_HOURS_MAX = 35 * 24
"""As old as an event may be that ingest takes."""


class RunSummary(TypedDict):
    id: str
    seller: str
    end: str
    finalise_after: str
    created_at: str


class NewRunDocument(RunSummary):
    drafts: int


class RunDocument(NewRunDocument):
    waiting: int
    final: int
    empty: int
    refused: int


class DraftSummary(TypedDict):
    organization: str
    currency: str
    state: DraftState
    invoice: str | None
    reason: Mapping[str, Any] | None


class DraftDocument(TypedDict):
    state: DraftState
    invoice: str | None
    draft: Mapping[str, Any] | None
    """As an invoice, without a number."""


class RetriedDocument(TypedDict):
    id: str
    retried: int


class NewRun(Body):
    end: AwareDatetime
    """Exclusive: each invoice is for usage up to then."""
    seller: Id = DEFAULT_SELLER
    grace_hours: Annotated[int, Field(ge=0, le=GRACE_HOURS_MAX)] = GRACE_HOURS_DEFAULT
    """For events that come late: drafts become final that long after the end."""


@router.post("/v1/invoice-runs", status_code=201)
async def begin_run(body: NewRun, parts: PartsOf, idempotency_key: IdempotencyKey) -> NewRunDocument:
    """A draft for each customer of the seller with anything to invoice; a worker makes them final after the grace."""
    now, once = parts.now(), {"scope": "invoice-runs", "key": idempotency_key}
    end = utc(body.end)
    if end > now:
        raise PeriodInvalid(f"The run would end at {end.isoformat()}, which has not come yet.")
    async with parts.database.begin() as session:
        known: NewRunDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        await party_store.seller(session, body.seller)
        run = Run(
            id=new_id("run", now),
            seller=body.seller,
            period_end=end,
            finalise_after=end + timedelta(hours=body.grace_hours),
            created_at=now,
        )
        drafts = await run_store.add(session, run)
        answer: NewRunDocument = {**_document(run), "drafts": drafts}
        await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/invoice-runs/{run_id}")
async def show_run(run_id: Id, parts: PartsOf) -> RunDocument:
    """How far it is. `waiting` is what is not final yet; `refused` needs somebody to look at it."""
    async with parts.database.snapshot() as session:
        run = await run_store.run(session, run_id)
        states = await run_store.states(session, run_id)
    return {
        **_document(run),
        "drafts": sum(states.values()),
        "waiting": states[DraftState.DRAFT],
        "final": states[DraftState.FINAL],
        "empty": states[DraftState.EMPTY],
        "refused": states[DraftState.REFUSED],
    }


@router.get("/v1/invoice-runs/{run_id}/drafts")
async def list_drafts(
    run_id: Id, parts: PartsOf, page: PageOf, state: DraftState | None = None
) -> Listed[DraftSummary]:
    query = (run_id, state or "")
    async with parts.database.snapshot() as session:
        await run_store.run(session, run_id)
        found = await run_store.page(
            session, run_id, state=state, after=after_of(page.after, query), limit=page.limit
        )
    items: list[DraftSummary] = [
        {
            "organization": row.org,
            "currency": row.currency,
            "state": row.state,
            "invoice": row.invoice,
            "reason": row.reason,
        }
        for row in found
    ]
    last = f"{items[-1]['organization']}/{items[-1]['currency']}" if items else ""
    return {"items": items, "next": cursor_of(last, query) if len(items) == page.limit else None}


@router.get("/v1/invoice-runs/{run_id}/drafts/{organization_id}/{currency}")
async def show_draft(run_id: Id, organization_id: Id, currency: Currency, parts: PartsOf) -> DraftDocument:
    """The invoice as it would be, of the books as they stand now: it has no number and is kept nowhere."""
    place = DraftPlace(run=run_id, organization=organization_id, currency=currency)
    async with parts.database.begin() as session:
        row = await run_store.draft(session, place)
        if row.state == DraftState.FINAL:
            return {"state": row.state, "invoice": row.invoice, "draft": None}
        order = Order(organization_id, currency, None, row.period_end, row.seller)
        draft = await draft_of(
            session, Books(parts.database, parts.tax, test=parts.is_test), order, now=parts.now()
        )
    return {"state": row.state, "invoice": None, "draft": draft}


@router.post("/v1/invoice-runs/{run_id}/retry")
async def retry_run(run_id: Id, parts: PartsOf) -> RetriedDocument:
    """Drafts that were refused are tried once more, when what stood against them is mended."""
    async with parts.database.begin() as session:
        await run_store.run(session, run_id)
        retried = await run_store.retry(session, run_id, now=parts.now())
    return {"id": run_id, "retried": retried}


def _document(run: Run) -> RunSummary:
    return {
        "id": run.id,
        "seller": run.seller,
        "end": run.period_end.isoformat(),
        "finalise_after": run.finalise_after.isoformat(),
        "created_at": run.created_at.isoformat(),
    }
