"""Reading the books for their checks, in one snapshot: events, rollups, ratings, ledger, invoices."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.invoicing.usage_store import line_of
from headrace_billing.rating.book import PriceBook, PriceLine
from headrace_billing.rating.price import TokenClass
from headrace_billing.rating.schedule import charge_nanos
from headrace_billing.rating.store import price_books
from headrace_billing.reconciliation.books import Counts, Money
from headrace_billing.reconciliation.report import Scope
from headrace_contracts.usage import ServiceTier


async def counts(session: AsyncSession, scope: Scope) -> tuple[Counts, Counts]:
    """(events, rollups) of the whole hours that the scope touches."""
    row = (await session.execute(SELECT_COUNTS, _parameters(scope))).one()
    return (
        Counts(int(row.event_requests), int(row.event_tokens)),
        Counts(int(row.rollup_requests), int(row.rollup_tokens)),
    )


async def money(session: AsyncSession, scope: Scope, *, rate_events: bool = True) -> list[Money]:
    """One a currency. Usage is compared by the whole months that the scope touches, the rest as it stands.

    Rating a month's events anew reads all of them; without that, their charge is taken to be what was rated.
    """
    sums: dict[str, dict[str, int]] = {}
    nothing = dict.fromkeys((one.name for one in SUMS), 0)
    for row in await session.execute(SELECT_SUMS, _parameters(scope)):
        sums.setdefault(row.currency, dict(nothing))[row.name] = int(row.nanos)
    events = (
        await _charges(session, scope)
        if rate_events
        else {currency: found["rated"] for currency, found in sums.items()}
    )
    for currency in events:
        sums.setdefault(currency, dict(nothing))
    return [
        Money(currency=currency, events=events.get(currency, 0), **found)
        for currency, found in sorted(sums.items())
    ]


Place = tuple[str, date, str, str, str, str, str, PriceLine]
"""Whose quantity is rated as one: currency, month, project, wallet, price book, model, disposition, price line."""


async def _charges(session: AsyncSession, scope: Scope) -> dict[str, int]:
    """Events rated anew: summed as ingest sums them, each sum charged once."""
    rows = (await session.execute(SELECT_GROUPS, _parameters(scope))).all()
    books: Mapping[str, PriceBook] = await price_books(session, {row.price_book for row in rows})
    sums: dict[Place, int] = {}
    for row in rows:
        prices, tier = books[row.price_book].models[row.model], ServiceTier(row.service_tier)
        for kind in TokenClass:
            line = prices.line(kind, row.price_window, tier)
            place = (*_place(row), line)
            sums[place] = sums.get(place, 0) + int(getattr(row, kind))
    closed = {
        (*_place(row), line_of(row)) for row in await session.execute(SELECT_CLOSED, _parameters(scope))
    }
    charged: dict[str, int] = {}
    for place, quantity in sums.items():
        currency, _, _, _, book, model, _, line = place
        nanos = charge_nanos(quantity, books[book].schedule(model, line), closed=place in closed)
        charged[currency] = charged.get(currency, 0) + nanos
    return charged


def _place(row: Row[Any]) -> tuple[str, date, str, str, str, str, str]:
    return row.currency, row.month, row.project, row.wallet, row.price_book, row.model, row.disposition


def _parameters(scope: Scope) -> dict[str, Any]:
    """Half-open again, widened to what rollups and ratings can tell apart."""
    return {
        "org": scope.organization,
        "charged": sorted(CHARGED),
        "first_hour": scope.start.replace(minute=0, second=0, microsecond=0),
        "last_hour": scope.end,
        "first_month": scope.start.date().replace(day=1),
        "end_month": _month_after(scope.end),
    }


def _month_after(end: datetime) -> date:
    """The first month that nothing before `end` belongs to."""
    first = end.date().replace(day=1)
    if (end.day, end.time()) == (1, datetime.min.time()):
        return first
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


@dataclass(frozen=True, slots=True)
class Sum:
    """One way to an amount of money; `month` is what tells which month it is of, where that matters.

    Those of one source stand together.
    """

    name: str
    amount: str
    source: str
    org: str
    currency: str
    month: str | None = None
    only: str = "true"


POSTINGS = "ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id"
ACCEPTED = (
    "outcomes o JOIN outcome_types y ON y.id = o.outcome_type JOIN tasks k ON k.id = o.task",
    "o.org",
    "y.currency",
)
PERIOD = "to_date(t.memo ->> 'period', 'YYYY-MM')"
RATED = ("rated_usage u", "u.org", "u.currency")

SUMS = (
    Sum("rated", "u.charge_nanos", *RATED, "u.period", "u.disposition = ANY(:charged)"),
    Sum("rated_ever", "u.charge_nanos", *RATED, only="u.disposition = ANY(:charged)"),
    Sum("rated_prepaid_ever", "u.charge_nanos", *RATED, only="u.disposition IN ('prepaid', 'commitment')"),
    Sum("rolled", "u.charge_nanos", "usage_rollups u", "u.org", "u.currency", "u.hour"),
    Sum("rolled_by_day", "u.charge_nanos", "usage_rollups_by_day u", "u.org", "u.currency", "u.hour"),
    Sum("rolled_by_session", "u.charge_nanos", "usage_rollups_by_session u", "u.org", "u.currency", "u.hour"),
    Sum(
        "posted",
        "p.amount_nanos",
        POSTINGS,
        "p.owner",
        "p.currency",
        PERIOD,
        "t.kind = 'usage' AND p.kind = 'unbilled'",
    ),
    Sum(
        "posted_invoices",
        "-p.amount_nanos",
        POSTINGS,
        "p.owner",
        "p.currency",
        None,
        "t.kind = 'invoice' AND p.kind = 'unbilled'",
    ),
    Sum(
        "unbilled",
        "b.amount_nanos",
        "ledger_balances b",
        "b.owner",
        "b.currency",
        None,
        "b.kind = 'unbilled'",
    ),
    Sum(
        "applied",
        "b.amount_nanos",
        "ledger_balances b",
        "b.owner",
        "b.currency",
        None,
        "b.kind = 'wallet_applied'",
    ),
    Sum("outcomes_ever", "y.price_nanos", *ACCEPTED, only="o.accepted_at IS NOT NULL"),
    Sum("outcomes_prepaid_ever", "y.price_nanos", *ACCEPTED, only="o.accepted_at IS NOT NULL AND k.reserved"),
    Sum("charged_ever", "c.amount_nanos", "charges c", "c.org", "c.currency"),
    Sum("invoiced", "i.exact_nanos", "invoices i", "i.org", "i.currency"),
    Sum("invoiced_applied", "i.applied_nanos", "invoices i", "i.org", "i.currency"),
)


def sums_of(*, by: str, joined: str, only: str, first_month: str, end_month: str) -> str:
    """SQL for a row a currency and name; what comes of one source is read once, whatever is summed of it.

    `by` is a column named `org` to tell apart by, if any; in `joined` and `only` stand `{source}` and its `{org}`.
    """
    parts = []
    for (source, org, currency), found in groupby(SUMS, key=attrgetter("source", "org", "currency")):
        ways = {
            one: one.only
            if one.month is None
            else f"{one.only} AND {one.month} >= {first_month} AND {one.month} < {end_month}"
            for one in found
        }
        names = ", ".join(f"'{one.name}'" for one in ways)
        sums = ", ".join(f"sum({one.amount}) FILTER (WHERE {way})" for one, way in ways.items())
        parts.append(f"""
            SELECT {by and "g.org,"} g.currency, v.name, v.nanos FROM (
              SELECT {by and f"{by},"} {currency} AS currency, CAST(ARRAY[{sums}] AS numeric[]) AS nanos
              FROM {joined.format(source=source, org=org)}
              WHERE {only.format(org=org)} AND ({" OR ".join(f"({way})" for way in ways.values())})
              GROUP BY {by and f"{by},"} {currency}
            ) AS g, unnest(ARRAY[{names}], g.nanos) AS v (name, nanos)
            WHERE v.nanos IS NOT NULL
        """)  # noqa: S608 - put together from constants
    return " UNION ALL ".join(parts)


SELECT_SUMS = text(
    sums_of(
        by="",
        joined="{source}",
        only="(CAST(:org AS text) IS NULL OR {org} = :org)",
        first_month="CAST(:first_month AS date)",
        end_month="CAST(:end_month AS date)",
    )
)

SELECT_COUNTS = text("""
    WITH hours AS (
      SELECT CAST(:first_hour AS timestamptz) AS first,
             date_trunc('hour', CAST(:last_hour AS timestamptz) - interval '1 microsecond') + interval '1 hour' AS last
    )
    SELECT e.requests AS event_requests, e.tokens AS event_tokens,
           r.requests AS rollup_requests, r.tokens AS rollup_tokens
    FROM (
      SELECT count(*) AS requests,
             coalesce(sum(tokens_input_uncached + tokens_cache_read + tokens_cache_write
                          + tokens_output_visible + tokens_reasoning), 0) AS tokens
      FROM usage_effective, hours
      WHERE (CAST(:org AS text) IS NULL OR org = :org) AND received_at >= hours.first AND received_at < hours.last
    ) AS e, (
      SELECT coalesce(sum(requests), 0) AS requests,
             coalesce(sum(tokens_input_uncached + tokens_cache_read + tokens_cache_write
                          + tokens_output_visible + tokens_reasoning), 0) AS tokens
      FROM usage_rollups, hours
      WHERE (CAST(:org AS text) IS NULL OR org = :org) AND hour >= hours.first AND hour < hours.last
    ) AS r
""")

SELECT_GROUPS = text("""
    SELECT currency, CAST(date_trunc('month', received_at) AS date) AS month, project, wallet, price_book,
           model_served AS model, disposition, price_window, service_tier,
           sum(tokens_input_uncached) AS input_uncached, sum(tokens_cache_read) AS cache_read,
           sum(tokens_cache_write) AS cache_write, sum(tokens_output_visible + tokens_reasoning) AS output
    FROM usage_effective
    WHERE (CAST(:org AS text) IS NULL OR org = :org) AND disposition = ANY(:charged)
      AND received_at >= CAST(:first_month AS date) AND received_at < CAST(:end_month AS date)
    GROUP BY org, project, wallet, currency, price_book, model_served, disposition, price_window, service_tier,
             date_trunc('month', received_at)
""")

SELECT_CLOSED = text("""
    SELECT currency, period AS month, project, wallet, price_book, model, disposition, token_class, price_window,
           service_tier
    FROM rated_usage
    WHERE (CAST(:org AS text) IS NULL OR org = :org) AND closed
      AND period >= CAST(:first_month AS date) AND period < CAST(:end_month AS date)
""")
