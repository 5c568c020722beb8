"""Closing the account of a calendar month: what can be charged only once the month is over.

Minimum charges, and the rest of the package begun last. Posted at the close of the first period that reaches the
month's end, in a transaction of its own: it is due whether or not that close then goes through, and whoever repeats it
finds it done. Usage that comes later is rated with both in mind.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import Database
from headrace_billing.ids import new_id
from headrace_billing.ingest import sums_store
from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.ingest.batch import ONE_AT_A_TIME, post_usage
from headrace_billing.ingest.effects import NO_KEY, RollupKey, RollupSums
from headrace_billing.invoicing.usage_store import Whose
from headrace_billing.rating import cumulative
from headrace_billing.rating.cumulative import Group, Payer
from headrace_billing.rating.store import price_books
from headrace_contracts.usage import Disposition


async def waiting(session: AsyncSession, befores: Mapping[Whose, datetime]) -> set[Whose]:
    """Whose months that ended by then are not all closed; most have nothing that waits for a close."""
    rows = await session.execute(
        SELECT_WAITING,
        {
            "orgs": [whose.organization for whose in befores],
            "currencies": [whose.currency for whose in befores],
            "months": [cumulative.period_of(before) for before in befores.values()],
            "charged": sorted(CHARGED),
        },
    )
    return {Whose(row.org, row.currency) for row in rows}


async def close_months(
    database: Database, *, organization: str, currency: str, before: datetime, now: datetime
) -> None:
    """Closes every month that ended by `before`. Nothing but ingest writes what this writes, so it takes its turn."""
    async with database.begin() as session:
        await session.execute(ONE_AT_A_TIME)
        payers = await _open_payers(
            session, organization=organization, currency=currency, month=cumulative.period_of(before)
        )
        if payers:
            await _close(session, payers, now=now)


async def _close(session: AsyncSession, payers: set[Payer], *, now: datetime) -> None:
    standing = await sums_store.rated(session, payers)
    books = await price_books(session, {group.price_book for group in standing})
    closed = cumulative.close(standing, books)
    await sums_store.keep_rated(session, closed)
    added = {
        group: rated.charge_nanos - standing[group].charge_nanos
        for group, rated in closed.items()
        if rated.charge_nanos != standing[group].charge_nanos
    }
    await sums_store.add_rollups(session, _rollups(added))
    owed: dict[Payer, dict[str, int]] = {}
    for group, nanos in added.items():
        by_model = owed.setdefault(group.payer, {})
        by_model[group.model] = by_model.get(group.model, 0) + nanos
    closing = new_id("mcl", now)
    await post_usage(
        session,
        owed,
        key=f"month-close:{closing}",
        memo={"close": closing},
        occurred_at={payer: last_hour(payer.period) + timedelta(hours=1, microseconds=-1) for payer in owed},
    )


def _rollups(added: dict[Group, int]) -> dict[RollupKey, RollupSums]:
    sums: dict[RollupKey, RollupSums] = {}
    for group, nanos in added.items():
        payer = group.payer
        key = RollupKey(
            last_hour(payer.period),
            payer.org,
            payer.project,
            NO_KEY,
            payer.wallet,
            payer.currency,
            group.model,
            group.price_book,
            payer.disposition,
            group.line.service_tier,
        )
        sums.setdefault(key, RollupSums()).charge_nanos += nanos
    return sums


def last_hour(month: date) -> datetime:
    after = (month.replace(day=28) + timedelta(days=4)).replace(day=1)
    return datetime.combine(after, time(), UTC) - timedelta(hours=1)


async def _open_payers(session: AsyncSession, *, organization: str, currency: str, month: date) -> set[Payer]:
    rows = await session.execute(
        SELECT_OPEN_PAYERS,
        {"org": organization, "currency": currency, "charged": sorted(CHARGED), "month": month},
    )
    return {
        Payer(row.period, organization, row.project, row.wallet, currency, Disposition(row.disposition))
        for row in rows
    }


SELECT_WAITING = text("""
    SELECT DISTINCT s.org, s.currency
    FROM unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[]), CAST(:months AS date[]))
      AS s (org, currency, month)
    JOIN rated_usage r ON r.org = s.org AND r.currency = s.currency AND r.period < s.month
    JOIN price_book_prices p ON p.price_book = r.price_book AND p.model = r.model
    WHERE r.disposition = ANY(:charged) AND NOT r.closed AND p.definition IS NOT NULL
""")

# Of flat prices nothing waits for the close, and they have no definition.
SELECT_OPEN_PAYERS = text("""
    SELECT DISTINCT r.period, r.project, r.wallet, r.disposition
    FROM rated_usage r JOIN price_book_prices p ON p.price_book = r.price_book AND p.model = r.model
    WHERE r.org = :org AND r.currency = :currency AND r.disposition = ANY(:charged) AND r.period < :month
      AND NOT r.closed AND p.definition IS NOT NULL
""")
