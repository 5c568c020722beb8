"""Recognising deferred charges, month by month: unasked after each month's end, and before a month is closed."""

from datetime import date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounting.month import ends
from headrace_billing.charges.charge import ChargeKind
from headrace_billing.charges.recognition import Deferred, post, recognitions
from headrace_billing.database import Database
from headrace_billing.invoicing.usage import Span
from headrace_billing.ledger import store as ledger

BATCH_MAX = 1_000


async def recognise_over(database: Database, *, now: datetime) -> bool:
    """A batch of what the months that are over have earned; whether there may be more."""
    through = (now.replace(day=1) - timedelta(days=1)).date().replace(day=1)
    async with database.begin() as session:
        return await recognise_some(session, through=through) == BATCH_MAX


async def recognise(session: AsyncSession, *, through: date) -> None:
    """All of it, in the caller's transaction."""
    while await recognise_some(session, through=through) == BATCH_MAX:
        pass


async def recognise_some(session: AsyncSession, *, through: date) -> int:
    """A batch; of how many charges. One at a time recognises, until the transaction ends."""
    await session.execute(LOCK)
    rows = await session.execute(
        SELECT_DEFERRED, {"before": ends(through), "through": through, "limit": BATCH_MAX}
    )
    every = [
        Deferred(
            charge=row.id,
            currency=row.currency,
            kind=ChargeKind(row.kind),
            span=Span(row.span_start, row.span_end),
            nanos=int(row.amount_nanos),
            changes=[(datetime.fromisoformat(at), int(nanos)) for at, nanos in row.changes],
            recognised={date.fromisoformat(month): int(nanos) for month, nanos in row.recognised.items()},
        )
        for row in rows
    ]
    found = [
        (one, month, nanos) for one in every for month, nanos in recognitions(one, through=through).items()
    ]
    if found:
        await session.execute(
            INSERT, [{"charge": one.charge, "month": month, "nanos": nanos} for one, month, nanos in found]
        )
        await ledger.post_all(session, [post(*one) for one in found if one[2]])
    return len(every)


LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('recognise charges', 0))")

SELECT_DEFERRED = text("""
    SELECT c.id, c.currency, c.kind, c.span_start, c.span_end, c.amount_nanos, d.changes, r.recognised
    FROM charges c
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(nanos), 0) AS changed,
             coalesce(jsonb_agg(jsonb_build_array(at, nanos::text)), '[]') AS changes
      FROM charge_deferrals WHERE charge = c.id
    ) AS d
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(nanos), 0) AS total, max(month) AS last,
             coalesce(jsonb_object_agg(month, nanos::text) FILTER (WHERE month IS NOT NULL), '{}') AS recognised
      FROM charge_recognitions WHERE charge = c.id
    ) AS r
    WHERE c.recognition = 'over_time' AND c.span_start < :before
      AND r.total <> c.amount_nanos + d.changed
      AND (r.last IS NULL OR r.last < CAST(:through AS date))
    ORDER BY c.span_start, c.id LIMIT :limit
""")

INSERT = text("INSERT INTO charge_recognitions (charge, month, nanos) VALUES (:charge, :month, :nanos)")
