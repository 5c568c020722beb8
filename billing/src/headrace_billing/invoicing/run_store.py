"""Invoice runs and their drafts in Postgres. A draft is taken by one worker at a time, and skipped by the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound


class RunExists(BillingError):
    """The seller has a run up to that time."""

    code = "run_exists"

    def __init__(self, seller: str, period_end: datetime) -> None:
        super().__init__(
            f"{seller} has a run up to {period_end.isoformat()}; retry it if drafts were refused."
        )


class DraftState(StrEnum):
    DRAFT = "draft"
    FINAL = "final"
    EMPTY = "empty"  # nothing to invoice after all; it waits for the next run
    REFUSED = "refused"  # somebody must look at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    id: str
    seller: str
    period_end: datetime
    """Exclusive."""
    finalise_after: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPlace:
    run: str
    organization: str
    currency: str


@dataclass(frozen=True, slots=True)
class DueDraft:
    place: DraftPlace
    seller: str
    period_end: datetime


async def add(session: AsyncSession, run: Run) -> int:
    """With a draft for every customer of the seller that has something unbilled; how many. Raises `RunExists`."""
    fields = {
        "id": run.id,
        "seller": run.seller,
        "period_end": run.period_end,
        "finalise_after": run.finalise_after,
        "created_at": run.created_at,
    }
    try:
        async with session.begin_nested():
            await session.execute(INSERT_RUN, fields)
    except IntegrityError as error:
        raise RunExists(run.seller, run.period_end) from error
    return len((await session.execute(INSERT_DRAFTS, fields)).all())


async def run(session: AsyncSession, run_id: str) -> Run:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_RUN, {"id": run_id})).mappings().first()
    if row is None:
        raise NotFound("invoice run", run_id)
    return Run(**row)


async def states(session: AsyncSession, run_id: str) -> Mapping[DraftState, int]:
    rows = await session.execute(SELECT_STATES, {"run": run_id})
    return dict.fromkeys(DraftState, 0) | {DraftState(row.state): row.drafts for row in rows}


async def page(
    session: AsyncSession, run_id: str, *, state: DraftState | None, after: str, limit: int
) -> Sequence[Row[Any]]:
    """`after` is `<organisation>/<currency>` of the last draft of the page before."""
    rows = await session.execute(
        SELECT_DRAFTS, {"run": run_id, "state": state, "after": after, "limit": limit}
    )
    return rows.all()


async def draft(session: AsyncSession, place: DraftPlace) -> Row[Any]:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_DRAFT, _place(place))).first()
    if row is None:
        raise NotFound("draft", f"{place.run}/{place.organization}/{place.currency}")
    return row


async def take_due(session: AsyncSession, *, now: datetime, limit: int) -> list[DueDraft]:
    """Those of one run that may be finalised and nobody else has taken, locked until the transaction ends."""
    rows = await session.execute(TAKE_DUE, {"now": now, "limit": limit})
    return [
        DueDraft(
            DraftPlace(run=row.run, organization=row.org, currency=row.currency), row.seller, row.period_end
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Noted:
    """What became of a draft."""

    place: DraftPlace
    state: DraftState
    try_after: datetime
    invoice: str | None = None
    reason: Mapping[str, Any] | None = None


async def note(session: AsyncSession, every: Sequence[Noted]) -> None:
    """Nothing for one with which another worker was quicker."""
    rows = [
        {
            **_place(one.place),
            "state": one.state,
            "invoice": one.invoice,
            "reason": one.reason,
            "try_after": one.try_after,
        }
        for one in every
    ]
    await session.execute(UPDATE_DRAFTS, {"rows": msgspec.json.encode(rows).decode()})


async def retry(session: AsyncSession, run_id: str, *, now: datetime) -> int:
    """Refused drafts are drafts again; how many."""
    return len((await session.execute(RETRY, {"run": run_id, "now": now})).all())


def _place(place: DraftPlace) -> dict[str, str]:
    return {"run": place.run, "org": place.organization, "currency": place.currency}


INSERT_RUN = text("""
    INSERT INTO invoice_runs (id, seller, period_end, finalise_after, created_at)
    VALUES (:id, :seller, :period_end, :finalise_after, :created_at)
""")

# Usage of a month is unbilled until an invoice takes it, so the ledger knows whom there is something to invoice.
INSERT_DRAFTS = text("""
    INSERT INTO invoice_drafts (run, org, currency, try_after)
    SELECT :id, b.owner, b.currency, :finalise_after
    FROM ledger_balances b LEFT JOIN billing_profiles p ON p.org = b.owner
    WHERE b.kind = 'unbilled' AND b.amount_nanos <> 0 AND coalesce(p.seller, 'default') = :seller
    RETURNING org
""")

SELECT_RUN = text("""
    SELECT id, seller, period_end, finalise_after, created_at FROM invoice_runs WHERE id = :id
""")

SELECT_STATES = text("SELECT state, count(*) AS drafts FROM invoice_drafts WHERE run = :run GROUP BY state")

SELECT_DRAFTS = text("""
    SELECT org, currency, state, invoice, reason FROM invoice_drafts
    WHERE run = :run AND (CAST(:state AS text) IS NULL OR state = :state) AND org || '/' || currency > :after
    ORDER BY org || '/' || currency LIMIT :limit
""")

SELECT_DRAFT = text("""
    SELECT d.state, d.invoice, d.reason, r.seller, r.period_end
    FROM invoice_drafts d JOIN invoice_runs r ON r.id = d.run
    WHERE d.run = :run AND d.org = :org AND d.currency = :currency
""")

TAKE_DUE = text("""
    SELECT d.run, d.org, d.currency, r.seller, r.period_end
    FROM invoice_drafts d JOIN invoice_runs r ON r.id = d.run
    WHERE d.state = 'draft' AND d.try_after <= :now
      AND d.run = (SELECT run FROM invoice_drafts WHERE state = 'draft' AND try_after <= :now
                   ORDER BY try_after, run LIMIT 1)
    ORDER BY d.try_after, d.org, d.currency LIMIT :limit FOR UPDATE OF d SKIP LOCKED
""")

UPDATE_DRAFTS = text("""
    UPDATE invoice_drafts d
    SET state = r.state, invoice = r.invoice, reason = r.reason, try_after = r.try_after
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (run text, org text, currency text, state text, invoice text,
                                                        reason jsonb, try_after timestamptz)
    WHERE d.run = r.run AND d.org = r.org AND d.currency = r.currency AND d.state = 'draft'
""")

RETRY = text("""
    UPDATE invoice_drafts SET state = 'draft', reason = NULL, try_after = :now
    WHERE run = :run AND state = 'refused' RETURNING org
""")
