"""Cost books in Postgres, and margins from rollups: each hour by the version that is effective then."""

import json
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.costs.cost_book import CostBook, Margin, MarginBy
from headrace_billing.rating.price import TokenClass, nanos_of_attos, price_text, scaled


async def publish(
    session: AsyncSession,
    *,
    currency: str,
    models: Mapping[str, Mapping[TokenClass, int]],
    at: datetime,
    effective_at: datetime,
) -> CostBook:
    await session.execute(LOCK)
    version: int = (await session.execute(NEXT_VERSION, {"currency": currency})).scalar_one()
    book = CostBook(f"cb_{currency.lower()}_{version}", currency, version, at, effective_at, models)
    await session.execute(
        INSERT_BOOK,
        {
            "id": book.id,
            "currency": currency,
            "version": version,
            "published_at": at,
            "effective_at": effective_at,
        },
    )
    rows = [
        {"model": model, **{kind: price_text(cost) for kind, cost in costs.items()}}
        for model, costs in models.items()
    ]
    await session.execute(INSERT_COSTS, {"id": book.id, "rows": json.dumps(rows)})
    return book


async def published(session: AsyncSession, *, currency: str | None, after: str, limit: int) -> list[CostBook]:
    rows = (await session.execute(SELECT_BOOKS, {"currency": currency, "after": after, "limit": limit})).all()
    models: dict[str, dict[str, Mapping[TokenClass, int]]] = {row.id: {} for row in rows}
    for cost in await session.execute(SELECT_COSTS, {"ids": list(models)}):
        models[cost.cost_book][cost.model] = {kind: scaled(getattr(cost, kind)) for kind in TokenClass}
    return [
        CostBook(row.id, row.currency, row.version, row.published_at, row.effective_at, models[row.id])
        for row in rows
    ]


async def margins(
    session: AsyncSession, *, by: MarginBy, currency: str, start: datetime, end: datetime, limit: int
) -> tuple[list[Margin], list[str]]:
    """Those with the least margin first, and the cost books that they go by."""
    parameters = {"currency": currency, "start": start, "end": end, "limit": limit}
    rows = await session.execute(SELECT_MARGINS[by], parameters)
    books = await session.execute(SELECT_EFFECTIVE, parameters)
    return [
        Margin(
            of=row.of,
            requests=int(row.requests),
            tokens=int(row.tokens),
            revenue_nanos=int(row.revenue_nanos),
            list_nanos=nanos_of_attos(int(row.list_attos)),
            cost_nanos=int(row.cost_nanos),
            tokens_without_cost=int(row.tokens_without_cost),
        )
        for row in rows
    ], list(books.scalars())


LOCK = text("SELECT pg_advisory_xact_lock(hashtext('headrace.cost_books'))")

NEXT_VERSION = text("SELECT coalesce(max(version), 0) + 1 FROM cost_books WHERE currency = :currency")

INSERT_BOOK = text("""
    INSERT INTO cost_books (id, currency, version, published_at, effective_at)
    VALUES (:id, :currency, :version, :published_at, :effective_at)
""")

INSERT_COSTS = text("""
    INSERT INTO cost_book_costs (cost_book, model, input_uncached, cache_read, cache_write, output)
    SELECT :id, model, input_uncached, cache_read, cache_write, output
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
      AS r (model text, input_uncached numeric, cache_read numeric, cache_write numeric, output numeric)
""")

SELECT_BOOKS = text("""
    SELECT id, currency, version, published_at, effective_at FROM cost_books
    WHERE id > :after AND (CAST(:currency AS text) IS NULL OR currency = :currency) ORDER BY id LIMIT :limit
""")

SELECT_COSTS = text("""
    SELECT cost_book, model, input_uncached, cache_read, cache_write, output FROM cost_book_costs
    WHERE cost_book = ANY(:ids) ORDER BY cost_book, model
""")

# The newest version of those that begin at the same time, until the next one begins.
EFFECTIVE = """
    SELECT id, effective_at AS begins,
           coalesce(lead(effective_at) OVER (ORDER BY effective_at), 'infinity') AS ends
    FROM (SELECT DISTINCT ON (effective_at) id, effective_at FROM cost_books
          WHERE currency = :currency ORDER BY effective_at, version DESC) AS newest
"""

SELECT_EFFECTIVE = text(f"""
    SELECT id FROM ({EFFECTIVE}) AS b WHERE begins < :end AND ends > :start ORDER BY begins
""")  # noqa: S608 - put together from constants

TOKENS = """u.tokens_input_uncached + u.tokens_cache_read + u.tokens_cache_write + u.tokens_output_visible
            + u.tokens_reasoning"""

# Tokens times the cost of 1,000,000 are micro-units, exact in numeric.
COST_MICROS = """coalesce(sum(
      u.tokens_input_uncached * c.input_uncached + u.tokens_cache_read * c.cache_read
      + u.tokens_cache_write * c.cache_write + (u.tokens_output_visible + u.tokens_reasoning) * c.output), 0)"""

# The cost is rounded once a row, half away from zero.
SELECT_MARGINS = {
    by: text(f"""
        WITH effective AS ({EFFECTIVE})
        SELECT u.{column} AS of, sum(u.requests) AS requests, sum({TOKENS}) AS tokens,
               sum(u.charge_nanos) AS revenue_nanos, sum(u.list_attos) AS list_attos,
               round({COST_MICROS} * 1000) AS cost_nanos,
               coalesce(sum({TOKENS}) FILTER (WHERE c.model IS NULL), 0) AS tokens_without_cost
        FROM usage_rollups u
        LEFT JOIN effective b ON u.hour >= b.begins AND u.hour < b.ends
        LEFT JOIN cost_book_costs c ON c.cost_book = b.id AND c.model = u.model
        WHERE u.currency = :currency AND u.hour >= :start AND u.hour < :end
        GROUP BY u.{column}
        ORDER BY sum(u.charge_nanos) - {COST_MICROS} * 1000, u.{column}
        LIMIT :limit
    """)  # noqa: S608 - put together from constants
    for by, column in {MarginBy.MODEL: "model", MarginBy.ORGANIZATION: "org"}.items()
}
