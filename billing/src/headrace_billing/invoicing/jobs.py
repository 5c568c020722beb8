"""Finalising the drafts of invoice runs, one customer a transaction: whoever dies leaves the others as they are.

A draft and its invoice commit together, so no draft is finalised twice and none is lost, by however many workers.
"""

import asyncio
from datetime import datetime, timedelta

import structlog

from headrace_billing.errors import BillingError
from headrace_billing.invoicing import run_store
from headrace_billing.invoicing.closing import Books, NotReconciledYet, Order, close_period
from headrace_billing.invoicing.invoice import NothingToInvoice, PeriodInvalid
from headrace_billing.invoicing.run_store import DraftState, DueDraft
from headrace_billing.invoicing.tax import TaxUnavailable

log = structlog.get_logger()

# Each step is bounded, so that the worker can stop between two of them.
BATCH_DRAFTS_MAX = 100
# Numbers are given one after the other anyway; this many read and reckon meanwhile.
FINALISED_AT_ONCE = 4
# Until records of requests have arrived, or whoever reckons tax is there again.
TRY_AGAIN = timedelta(minutes=5)

PASSING = (NotReconciledYet, TaxUnavailable)
EMPTY = (NothingToInvoice, PeriodInvalid)
"""Also where somebody has closed the period by hand meanwhile."""


async def finalise_due(books: Books, *, now: datetime) -> int:
    """A batch of the drafts that are due; how many were looked at, so that zero means none is left."""
    counts = await asyncio.gather(
        *(
            _finalise_some(books, now=now, limit=BATCH_DRAFTS_MAX // FINALISED_AT_ONCE)
            for _ in range(FINALISED_AT_ONCE)
        )
    )
    done = sum(counts)
    if done:
        log.info("invoice_drafts_finalised", drafts=done)
    return done


async def _finalise_some(books: Books, *, now: datetime, limit: int) -> int:
    for done in range(limit):
        if not await _finalise_one(books, now=now):
            return done
    return limit


async def _finalise_one(books: Books, *, now: datetime) -> bool:
    """Whether there was one."""
    due: DueDraft | None = None
    try:
        async with books.database.begin() as session:
            due = await run_store.take_due(session, now=now)
            if due is None:
                return False
            place = due.place
            order = Order(place.organization, place.currency, None, due.period_end, due.seller)
            document = await close_period(session, books, order, now=now)
            await run_store.note(session, place, DraftState.FINAL, try_after=now, invoice=document["id"])
    except BillingError as error:
        if due is None:
            raise
        await _put_off(books, due, error, now=now)
    return True


async def _put_off(books: Books, due: DueDraft, error: BillingError, *, now: datetime) -> None:
    """In a transaction of its own: the one that was refused has left nothing behind."""
    state = DraftState.REFUSED
    if isinstance(error, PASSING):
        state = DraftState.DRAFT
    elif isinstance(error, EMPTY):
        state = DraftState.EMPTY
    reason = {"code": error.code, "detail": str(error), **getattr(error, "members", {})}
    log.warning("invoice_draft_not_final", state=state, code=error.code, organization=due.place.organization)
    async with books.database.begin() as session:
        await run_store.note(session, due.place, state, try_after=now + TRY_AGAIN, reason=reason)
