"""Dunning in Postgres."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this file

from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.pausing import set_paused
from headrace_billing.errors import NotFound
from headrace_billing.payments.dunning import ENDED, Dunning, DunningState, LastTry


async def begin(session: AsyncSession, *, limit: int) -> int:
    """Takes up invoices that leave something to pay; how many."""
    return len((await session.execute(INSERT_NEW, {"limit": limit})).all())


async def next_due(session: AsyncSession, *, now: datetime) -> Dunning | None:
    """One whose time has come, locked until the transaction ends."""
    row = (await session.execute(LOCK_NEXT, {"now": now})).mappings().first()
    return None if row is None else _dunning(row)


async def save(session: AsyncSession, dunning: Dunning) -> None:
    await session.execute(
        UPDATE,
        {
            "invoice": dunning.invoice,
            "state": dunning.state,
            "step": dunning.step,
            "next_at": dunning.next_at,
        },
    )


async def end(session: AsyncSession, invoice: str, state: DunningState) -> None:
    """Ends it, and the pause of the organisation with the last invoice that it was for."""
    assert state in ENDED, f"{invoice} does not end as {state}"
    row = (await session.execute(SET_ENDED, {"invoice": invoice, "state": state})).first()
    if row is not None and not (await session.execute(SELECT_PAUSING, {"org": row.org})).scalar_one():
        await set_paused(session, row.org, paused=False)


async def find(session: AsyncSession, invoice: str) -> Dunning:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT, {"invoice": invoice})).mappings().first()
    if row is None:
        raise NotFound("dunning of invoice", invoice)
    return _dunning(row)


async def reopen(session: AsyncSession, invoice: str, *, at: datetime) -> None:
    """Begins anew, as if it were due now."""
    await session.execute(REOPEN, {"invoice": invoice, "at": at})


async def last_try(session: AsyncSession, invoice: str) -> LastTry | None:
    row = (await session.execute(SELECT_LAST_TRY, {"invoice": invoice})).first()
    return None if row is None else LastTry(row.card, row.reason or "")


async def payment_waits(session: AsyncSession, invoice: str) -> bool:
    """Or is in doubt: until a person has looked, nothing more is charged."""
    return bool((await session.execute(SELECT_WAITING, {"invoice": invoice})).scalar_one())


async def of_org(session: AsyncSession, org: str, *, after: str, limit: int) -> list[Dunning]:
    rows = await session.execute(SELECT_OF_ORG, {"org": org, "after": after, "limit": limit})
    return [_dunning(row) for row in rows.mappings()]


def _dunning(row: RowMapping) -> Dunning:
    return Dunning(**{**row, "state": DunningState(row["state"])})


COLUMNS = "invoice, org, due_at, state, step, next_at"

INSERT_NEW = text("""
    INSERT INTO dunnings (invoice, org, due_at, state, next_at)
    SELECT id, org, due_at, 'running', due_at FROM invoices i
    WHERE due_at IS NOT NULL AND due_minor > 0 AND NOT EXISTS (SELECT FROM dunnings d WHERE d.invoice = i.id)
    ORDER BY id LIMIT :limit
    ON CONFLICT (invoice) DO NOTHING RETURNING invoice
""")

LOCK_NEXT = text(f"""
    SELECT {COLUMNS} FROM dunnings WHERE next_at <= :now ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
""")

UPDATE = text("UPDATE dunnings SET state = :state, step = :step, next_at = :next_at WHERE invoice = :invoice")

SELECT = text(f"SELECT {COLUMNS} FROM dunnings WHERE invoice = :invoice")

SET_ENDED = text("""
    UPDATE dunnings SET state = :state, next_at = NULL
    WHERE invoice = :invoice AND state NOT IN ('paid', 'stopped') RETURNING org
""")

SELECT_PAUSING = text("SELECT EXISTS (SELECT FROM dunnings WHERE org = :org AND state = 'paused')")

REOPEN = text("""
    UPDATE dunnings SET state = 'running', step = 0, due_at = :at, next_at = :at
    WHERE invoice = :invoice AND state IN ('paid', 'stopped')
""")

SELECT_LAST_TRY = text("""
    SELECT card, reason FROM top_ups
    WHERE invoice = :invoice AND state = 'refused' AND card IS NOT NULL ORDER BY id DESC LIMIT 1
""")

SELECT_WAITING = text("""
    SELECT EXISTS (SELECT FROM top_ups WHERE invoice = :invoice AND state IN ('creating', 'open', 'quarantined'))
""")

SELECT_OF_ORG = text(f"""
    SELECT {COLUMNS} FROM dunnings WHERE org = :org AND invoice > :after ORDER BY invoice LIMIT :limit
""")
