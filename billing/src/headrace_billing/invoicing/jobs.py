"""Finalising the drafts of invoice runs, some customers a transaction: whoever dies leaves the others as they are.

Drafts and their invoices commit together, so no draft is finalised twice and none is lost, by however many workers.
"""

import asyncio
import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from headrace_billing.database import Database
from headrace_billing.errors import BillingError
from headrace_billing.invoicing import run_store
from headrace_billing.invoicing.closing import Document, close_periods
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.invoice import NothingToInvoice, PeriodInvalid
from headrace_billing.invoicing.orders import Order
from headrace_billing.invoicing.reconciled import NotReconciledYet
from headrace_billing.invoicing.run_store import DraftState, DueDraft, Noted
from headrace_billing.invoicing.tax import TaxUnavailable
from headrace_billing.reconciliation.many import Lookout

log = structlog.get_logger()

# Large enough that a query is asked for many, small enough for a second or two and some dozen megabytes.
BATCH_DRAFTS_MAX = 250
# Numbers are given one after the other anyway; this many read and reckon meanwhile.
BATCHES_AT_ONCE = 2
# Each step is bounded, so that the worker can stop between two of them.
BATCHES_OF_A_STEP = 4
# Until records of requests have arrived, or whoever reckons tax is there again.
TRY_AGAIN = timedelta(minutes=5)

PASSING = (NotReconciledYet, TaxUnavailable)
EMPTY = (NothingToInvoice, PeriodInvalid)
"""Also where somebody has closed the period by hand meanwhile."""

TRACEBACK_FRAMES_MAX = 12

AWAY = (OperationalError, PoolTimeoutError, psycopg.OperationalError)
"""Postgres is not to be had; that is no draft's fault."""
DEFECT = "invoice_failed"
"""Why a draft is refused that no rule refuses: a fault of ours, which the log tells more of."""


async def finalise_due(
    books: Books, *, now: datetime, batch_drafts: int = BATCH_DRAFTS_MAX, lookout: Lookout | None = None
) -> int:
    """Some of the drafts that are due; how many were looked at, so that zero means none is left."""
    lookout = lookout or Lookout()
    counts = await asyncio.gather(
        *(_some(books, lookout, now=now, batch_drafts=batch_drafts) for _ in range(BATCHES_AT_ONCE))
    )
    done = sum(counts)
    if done:
        log.info("invoice_drafts_finalised", drafts=done)
    return done


async def _some(books: Books, lookout: Lookout, *, now: datetime, batch_drafts: int) -> int:
    done = 0
    for _ in range(BATCHES_OF_A_STEP // BATCHES_AT_ONCE):
        looked_at = await _batch(books, lookout, now=now, drafts=batch_drafts)
        done += looked_at
        if not looked_at:
            break
    return done


async def _batch(books: Books, lookout: Lookout, *, now: datetime, drafts: int) -> int:
    """How many there were. What fails for one fails for all of them, so then each is tried alone."""
    due: list[DueDraft] = []
    try:
        async with books.database.begin() as session:
            due = await run_store.take_due(session, now=now, limit=drafts)
            if not due:
                return 0
            orders = [
                Order(one.place.organization, one.place.currency, None, one.period_end, one.seller)
                for one in due
            ]
            answers = await close_periods(session, books, orders, now=now, lookout=lookout)
            await run_store.note(
                session, [_noted(one, answer, now=now) for one, answer in zip(due, answers, strict=True)]
            )
    except AWAY:
        raise
    except Exception:
        if not due:
            raise
        if len(due) > 1:
            return sum([await _batch(books, lookout, now=now, drafts=1) for _ in due])
        # As text: a structured traceback would hold the values of local variables.
        log.error(  # noqa: TRY400
            "invoice_draft_failed",
            run=due[0].place.run,
            organization=due[0].place.organization,
            traceback=traceback.format_exc(limit=-TRACEBACK_FRAMES_MAX),
        )
        await _refuse(books.database, due[0], now=now)
    return len(due)


async def _refuse(database: Database, draft: DueDraft, *, now: datetime) -> None:
    """In a transaction of its own: the one that failed has left nothing behind."""
    reason = {"code": DEFECT, "detail": "The invoice could not be made, by a fault of the program."}
    async with database.begin() as session:
        await run_store.note(session, [Noted(draft.place, DraftState.REFUSED, now, reason=reason)])


def _noted(draft: DueDraft, answer: Document | BillingError, *, now: datetime) -> Noted:
    if not isinstance(answer, BillingError):
        return Noted(draft.place, DraftState.FINAL, now, invoice=answer["id"])
    state = DraftState.REFUSED
    if isinstance(answer, PASSING):
        state = DraftState.DRAFT
    elif isinstance(answer, EMPTY):
        state = DraftState.EMPTY
    members: Mapping[str, Any] = getattr(answer, "members", {})
    log.warning(
        "invoice_draft_not_final", state=state, code=answer.code, organization=draft.place.organization
    )
    reason = {"code": answer.code, "detail": str(answer), **members}
    return Noted(draft.place, state, now + TRY_AGAIN, reason=reason)
