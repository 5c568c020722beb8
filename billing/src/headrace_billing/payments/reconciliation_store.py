"""What our books say of Stripe's, and what the last comparison found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.payments.reconciliation import Comparison, Posted
from headrace_billing.payments.reconciliation_documents import (
    CashCheckDocument,
    DifferenceDocument,
    PaymentsReportDocument,
)


@dataclass(frozen=True, slots=True)
class Last:
    as_of: datetime | None
    """Null before the first comparison."""
    oldest_difference: datetime | None


async def last(session: AsyncSession) -> Last:
    row = (await session.execute(SELECT_LAST)).one()
    return Last(row.as_of, row.oldest_difference)


async def posted_by_id(session: AsyncSession, ids: Sequence[str]) -> dict[str, Posted]:
    rows = await session.execute(SELECT_BY_ID, {"ids": list(ids)})
    return {row.id: Posted(**row) for row in rows.mappings()}


async def posted_between(session: AsyncSession, start: datetime, end: datetime) -> list[Posted]:
    rows = await session.execute(SELECT_BETWEEN, {"start": start, "end": end})
    return [Posted(**row) for row in rows.mappings()]


async def cash_checks(session: AsyncSession) -> list[CashCheckDocument]:
    """By currency: what payments did to `cash_clearing`, and what Stripe's balance transactions add up to."""
    checks = list[CashCheckDocument]()
    for row in await session.execute(SELECT_CASH):
        settled = int(row.settled_minor) * nanos_per_minor(row.currency)
        posted = int(row.ledger_nanos)
        checks.append(
            {
                "name": "payments: settled at Stripe = ledger",
                "currency": row.currency,
                "left": str(settled),
                "right": str(posted),
                "holds": settled == posted,
            }
        )
    return checks


async def keep(
    session: AsyncSession,
    found: Comparison,
    *,
    since: datetime,
    as_of: datetime,
    checks: Sequence[CashCheckDocument],
) -> None:
    """The comparison takes the place of what earlier ones found since then; older differences stand until they fit."""
    ids = [one.id for one in found.differences]
    await session.execute(RESOLVE, {"ids": ids, "since": since, "at": as_of})
    for one in found.differences:
        await session.execute(
            UPSERT_DIFFERENCE,
            {
                "id": one.id,
                "reason": one.reason,
                "payment": one.payment,
                "org": one.org,
                "amount_minor": one.amount_minor,
                "currency": one.currency,
                "booked_at": one.booked_at,
                "at": as_of,
            },
        )
    others = [
        {"kind": kind, "currency": currency, "amount": plain(minor, currency)}
        for (kind, currency), minor in sorted(found.others.items())
    ]
    await session.execute(
        INSERT_RUN,
        {
            "as_of": as_of,
            "since": since,
            "matched": found.matched,
            "pending": found.pending,
            "returned": found.returned,
            "others": json.dumps(others),
            "checks": json.dumps(checks),
        },
    )


async def report(session: AsyncSession) -> PaymentsReportDocument | None:
    """The last comparison; null before the first one."""
    run = (await session.execute(SELECT_RUN)).first()
    if run is None:
        return None
    differences = await open_differences(session)
    broken = differences or not all(check["holds"] for check in run.checks)
    return {
        "as_of": run.as_of.isoformat(),
        "since": run.since.isoformat(),
        "status": "red" if broken else "pending" if run.pending else "green",
        "matched": run.matched,
        "pending": run.pending,
        "returned": run.returned,
        "others": run.others,
        "checks": run.checks,
        "differences": differences,
    }


async def open_differences(session: AsyncSession) -> list[DifferenceDocument]:
    rows = await session.execute(SELECT_DIFFERENCES, {"limit": DIFFERENCES_SHOWN_MAX})
    return [
        {
            "balance_transaction": row.id,
            "reason": row.reason,
            "payment": row.payment,
            "organization": row.org,
            "amount": plain(row.amount_minor, row.currency),
            "currency": row.currency,
            "booked_at": row.booked_at.isoformat(),
            "found_at": row.found_at.isoformat(),
        }
        for row in rows
    ]


DIFFERENCES_SHOWN_MAX = 500

SELECT_LAST = text("""
    SELECT (SELECT max(as_of) FROM payment_reconciliations) AS as_of,
           (SELECT min(booked_at) FROM payment_differences WHERE resolved_at IS NULL) AS oldest_difference
""")

POSTED = """
    SELECT id, org, amount_minor, fee_minor, currency, moved_minor, moved_currency, recorded_at AS posted_at
    FROM stripe_settlements
"""
SELECT_BY_ID = text(f"{POSTED} WHERE id = ANY(:ids)")
SELECT_BETWEEN = text(f"{POSTED} WHERE recorded_at >= :start AND recorded_at < :end ORDER BY id")

# A top-up whose fee Stripe has not booked yet is cash here already, and is added to what Stripe has told.
SELECT_CASH = text("""
    WITH settled AS (
      SELECT currency, sum(minor) AS minor FROM (
        SELECT currency, amount_minor - fee_minor AS minor FROM stripe_settlements
        UNION ALL
        SELECT currency, amount_minor FROM top_ups WHERE state = 'paid' AND NOT settled) AS s
      GROUP BY currency
    ), posted AS (
      SELECT p.currency, sum(p.amount_nanos) AS nanos
      FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
      WHERE p.owner = 'business' AND p.kind = 'cash_clearing' AND (
        t.kind IN ('payment', 'psp_fee', 'cash_converted', 'refund_paid', 'refund_returned', 'disputed')
        OR (t.kind = 'reversal' AND t.memo ? 'dispute')
        OR (t.kind = 'credit_granted' AND t.memo ->> 'grant' IN (SELECT lot FROM top_ups)))
      GROUP BY p.currency
    )
    SELECT currency, coalesce(s.minor, 0) AS settled_minor, coalesce(p.nanos, 0) AS ledger_nanos
    FROM settled s FULL JOIN posted p USING (currency) ORDER BY currency
""")

RESOLVE = text("""
    UPDATE payment_differences SET resolved_at = :at
    WHERE resolved_at IS NULL AND NOT id = ANY(:ids) AND booked_at >= :since
""")

UPSERT_DIFFERENCE = text("""
    INSERT INTO payment_differences AS d (id, reason, payment, org, amount_minor, currency, booked_at, found_at)
    VALUES (:id, :reason, CAST(:payment AS text),
            coalesce(:org, (SELECT t.org FROM top_ups t WHERE t.payment = CAST(:payment AS text))),
            :amount_minor, :currency, :booked_at, :at)
    ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, org = excluded.org, resolved_at = NULL
""")

INSERT_RUN = text("""
    INSERT INTO payment_reconciliations (as_of, since, matched, pending, returned, others, checks)
    VALUES (:as_of, :since, :matched, :pending, :returned, CAST(:others AS jsonb), CAST(:checks AS jsonb))
    ON CONFLICT (as_of) DO NOTHING
""")

SELECT_RUN = text("SELECT * FROM payment_reconciliations ORDER BY as_of DESC LIMIT 1")

SELECT_DIFFERENCES = text("""
    SELECT id, reason, payment, org, amount_minor, currency, booked_at, found_at FROM payment_differences
    WHERE resolved_at IS NULL ORDER BY booked_at, id LIMIT :limit
""")
