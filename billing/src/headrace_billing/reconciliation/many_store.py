"""Reading the books of many customers at once, each over its own time, in one snapshot."""

# ruff: noqa: S608 - what is put into the SQL here are fragments of this room

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.invoicing.usage_store import line_of
from headrace_billing.rating.book import PriceLine
from headrace_billing.rating.price import TokenClass
from headrace_billing.rating.schedule import charge_nanos
from headrace_billing.rating.store import price_books
from headrace_billing.reconciliation.books_store import SUMS, sums_of
from headrace_billing.reconciliation.report import Scope
from headrace_billing.reconciliation.store import MATCHED, RECORDS, UNWITNESSED
from headrace_contracts.usage import ServiceTier

Sums = dict[str, int]


async def orphaned_deployments(session: AsyncSession, *, start: datetime, end: datetime) -> frozenset[str]:
    """Whose engines have a request without an event, and nobody has declared it lost."""
    rows = await session.execute(SELECT_ORPHANED, {"start": start, "end": end})
    return frozenset(rows.scalars())


async def odd(session: AsyncSession, scopes: Sequence[Scope], *, deployments: Collection[str]) -> set[str]:
    """Organisations with a request that is not plainly matched, or with rollups that count otherwise than events.

    A request to an engine that is declared to tell nothing is as it should be.
    """
    parameters = {**_parameters(scopes), "deployments": sorted(deployments)}
    found: set[str] = set()
    for statement in (SELECT_ODD_REQUESTS, SELECT_ODD_COUNTS):
        found |= set((await session.execute(statement, parameters)).scalars())
    return found


async def money(session: AsyncSession, scopes: Sequence[Scope]) -> dict[str, dict[str, Sums]]:
    """By organisation and currency what `books.Money` takes."""
    found: dict[str, dict[str, Sums]] = {}
    nothing = dict.fromkeys((*(one.name for one in SUMS), "events"), 0)
    for row in await session.execute(SELECT_SUMS, _parameters(scopes)):
        found.setdefault(row.org, {}).setdefault(row.currency, dict(nothing))[row.name] = int(row.nanos)
    for (organization, currency), nanos in (await _charges(session, scopes)).items():
        found.setdefault(organization, {}).setdefault(currency, dict(nothing))["events"] = nanos
    return found


Place = tuple[str, str, date, str, str, str, str, str, PriceLine]


async def _charges(session: AsyncSession, scopes: Sequence[Scope]) -> dict[tuple[str, str], int]:
    """Events rated anew, as `books_store` does it for one."""
    rows = (await session.execute(SELECT_GROUPS, _parameters(scopes))).all()
    books = await price_books(session, {row.price_book for row in rows})
    sums: dict[Place, int] = {}
    # Lines of a kind of price: a few, each asked for by every customer.
    known: dict[tuple[str, str, str, str], tuple[PriceLine, ...]] = {}
    for row in rows:
        priced = (row.price_book, row.model, row.price_window, row.service_tier)
        if priced not in known:
            prices, tier = books[row.price_book].models[row.model], ServiceTier(row.service_tier)
            known[priced] = tuple(prices.line(kind, row.price_window, tier) for kind in CLASSES)
        whose = _whose(row)
        counts = (row.input_uncached, row.cache_read, row.cache_write, row.output)
        for line, quantity in zip(known[priced], counts, strict=True):
            if quantity:
                place = (*whose, line)
                sums[place] = sums.get(place, 0) + int(quantity)
    closed = {
        (*_whose(row), line_of(row)) for row in await session.execute(SELECT_CLOSED, _parameters(scopes))
    }
    charged: dict[tuple[str, str], int] = {}
    for place, quantity in sums.items():
        organization, currency, _, _, _, book, model, _, line = place
        nanos = charge_nanos(quantity, books[book].schedule(model, line), closed=place in closed)
        charged[organization, currency] = charged.get((organization, currency), 0) + nanos
    return charged


CLASSES = (TokenClass.INPUT_UNCACHED, TokenClass.CACHE_READ, TokenClass.CACHE_WRITE, TokenClass.OUTPUT)


def _whose(row: Any) -> tuple[str, str, date, str, str, str, str, str]:
    return (
        row.org,
        row.currency,
        row.month,
        row.project,
        row.wallet,
        row.price_book,
        row.model,
        row.disposition,
    )


def _parameters(scopes: Sequence[Scope]) -> dict[str, Any]:
    return {
        "orgs": [scope.organization for scope in scopes],
        "starts": [scope.start for scope in scopes],
        "ends": [scope.end for scope in scopes],
        "charged": sorted(CHARGED),
    }


# Widened to whole hours and months, which is what rollups and ratings can tell apart.
SCOPES = """
    WITH s AS MATERIALIZED (
      SELECT org, starts, ends,
             date_trunc('hour', starts) AS first_hour,
             date_trunc('hour', ends - interval '1 microsecond') + interval '1 hour' AS last_hour,
             CAST(date_trunc('month', starts) AS date) AS first_month,
             CAST(date_trunc('month', ends - interval '1 microsecond') + interval '1 month' AS date) AS end_month
      FROM unnest(CAST(:orgs AS text[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
        AS given (org, starts, ends)
    )
"""
OF_SCOPE = "e.org = s.org AND e.received_at >= s.starts AND e.received_at < s.ends"
OF_HOURS = "e.org = s.org AND e.received_at >= s.first_hour AND e.received_at < s.last_hour"
TOKENS = "tokens_input_uncached + tokens_cache_read + tokens_cache_write + tokens_output_visible + tokens_reasoning"

SELECT_ORPHANED = text("""
    SELECT DISTINCT r.deployment FROM engine_records r
    WHERE NOT r.probe AND r.started_at >= :start AND r.started_at < :end
      AND NOT EXISTS (SELECT 1 FROM usage_events e WHERE e.id = r.request_id)
      AND NOT EXISTS (SELECT 1 FROM declared_losses d WHERE d.replica = r.replica AND d.attempt = r.attempt)
""")

SELECT_ODD_REQUESTS = text(f"""
    {SCOPES}
    SELECT s.org FROM s JOIN usage_effective e ON {OF_SCOPE} {RECORDS}
    GROUP BY s.org
    HAVING NOT bool_and({MATCHED} OR {UNWITNESSED}) OR bool_or(e.deployment = ANY(:deployments)) OR count(*) <> count(DISTINCT e.id)
    UNION
    SELECT s.org FROM usage_conflicts c JOIN usage_effective e ON e.id = c.id JOIN s ON {OF_SCOPE}
""")

SELECT_ODD_COUNTS = text(f"""
    {SCOPES}
    SELECT s.org FROM s
    CROSS JOIN LATERAL (
      SELECT count(*) AS requests, coalesce(sum({TOKENS}), 0) AS tokens FROM usage_effective e WHERE {OF_HOURS}
    ) AS e
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum({TOKENS}), 0) AS tokens
      FROM usage_rollups r WHERE r.org = s.org AND r.hour >= s.first_hour AND r.hour < s.last_hour
    ) AS r
    WHERE (e.requests, e.tokens) <> (r.requests, r.tokens)
""")

SELECT_SUMS = text(
    SCOPES
    + sums_of(
        by="s.org",
        joined="s JOIN {source} ON {org} = s.org",
        only="true",
        first_month="s.first_month",
        end_month="s.end_month",
    )
)

SELECT_GROUPS = text(f"""
    {SCOPES}
    SELECT s.org, e.currency, CAST(date_trunc('month', e.received_at) AS date) AS month, e.project, e.wallet,
           e.price_book, e.model_served AS model, e.disposition, e.price_window, e.service_tier,
           sum(e.tokens_input_uncached) AS input_uncached, sum(e.tokens_cache_read) AS cache_read,
           sum(e.tokens_cache_write) AS cache_write, sum(e.tokens_output_visible + e.tokens_reasoning) AS output
    FROM s JOIN usage_effective e
      ON e.org = s.org AND e.received_at >= s.first_month AND e.received_at < s.end_month
    WHERE e.disposition = ANY(:charged)
    GROUP BY s.org, e.currency, month, e.project, e.wallet, e.price_book, e.model_served, e.disposition,
             e.price_window, e.service_tier
""")

SELECT_CLOSED = text(f"""
    {SCOPES}
    SELECT u.org, u.currency, u.period AS month, u.project, u.wallet, u.price_book, u.model, u.disposition,
           u.token_class, u.price_window, u.service_tier
    FROM s JOIN rated_usage u ON u.org = s.org AND u.period >= s.first_month AND u.period < s.end_month
    WHERE u.closed
""")
