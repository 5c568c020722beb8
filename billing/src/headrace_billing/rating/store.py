"""Price books in Postgres, by id and by when they are in force."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.rating.book import PriceBook, Prices
from headrace_billing.rating.definition import prices_of, windows_of
from headrace_billing.rating.price import TokenClass, scaled
from headrace_billing.rating.schedule import flat


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an organisation pays otherwise than others."""

    models: Mapping[str, Prices] = field(default_factory=dict)
    inherited_times: int | None = None
    """What the prices of all other models are multiplied by, scaled."""


@dataclass(frozen=True, slots=True)
class Published:
    book: PriceBook
    version: int
    published_at: datetime
    effective_at: datetime
    base: str | None = None


async def in_force(
    session: AsyncSession, *, currency: str, org: str | None, at: datetime
) -> PriceBook | None:
    found: str | None = (
        await session.execute(SELECT_IN_FORCE, {"currency": currency, "org": org, "at": at})
    ).scalar()
    return None if found is None else (await price_books(session, [found]))[found]


class Asked(NamedTuple):
    """Whose prices, and when."""

    currency: str
    org: str
    at: datetime


async def ids_in_force(session: AsyncSession, asked: Iterable[Asked]) -> dict[Asked, str]:
    """The book that an organisation's usage is rated by: its own if it has one by then, or everybody's."""
    wanted = sorted(set(asked))
    rows = await session.execute(
        SELECT_IDS_IN_FORCE,
        {
            "currencies": [one.currency for one in wanted],
            "orgs": [one.org for one in wanted],
            "ats": [one.at for one in wanted],
        },
    )
    return {wanted[row.n - 1]: row.id for row in rows if row.id is not None}


async def overrides_in_force(session: AsyncSession, *, currency: str, at: datetime) -> dict[str, Overrides]:
    """By organisation."""
    found = {}
    for org in (await session.execute(SELECT_OVERRIDING, {"currency": currency})).scalars().all():
        own = await overrides(session, currency=currency, org=org, at=at)
        if own is not None:
            found[org] = own
    return found


async def overrides(session: AsyncSession, *, currency: str, org: str, at: datetime) -> Overrides | None:
    row = (await session.execute(SELECT_OVERRIDES, {"currency": currency, "org": org, "at": at})).first()
    if row is None:
        return None
    return Overrides(
        {model: prices_of(definition) for model, definition in row.models.items()},
        None if row.inherited_times is None else scaled(row.inherited_times),
    )


async def price_books(session: AsyncSession, ids: Iterable[str]) -> dict[str, PriceBook]:
    """Those of `ids` that exist."""
    books: dict[str, PriceBook] = {}
    models: dict[str, dict[str, Prices]] = {}
    for row in await session.execute(SELECT_PRICES, {"ids": sorted(set(ids))}):
        priced = models.setdefault(row.id, {})
        if row.id not in books:
            books[row.id] = PriceBook(row.id, row.currency, priced, windows_of(row.windows), row.org)
        priced[row.model] = (
            prices_of(row.definition)
            if row.definition is not None
            else Prices({kind: flat(scaled(getattr(row, kind))) for kind in TokenClass})
        )
    return books


async def published(
    session: AsyncSession, *, currency: str | None, org: str | None, after: str, limit: int
) -> list[Published]:
    rows = (
        await session.execute(
            SELECT_BOOKS, {"currency": currency, "org": org, "after": after, "limit": limit}
        )
    ).all()
    books = await price_books(session, [row.id for row in rows])
    return [
        Published(books[row.id], row.version, row.published_at, row.effective_at, row.base) for row in rows
    ]


SELECT_IN_FORCE = text("""
    SELECT id FROM price_books
    WHERE currency = :currency AND coalesce(org, '') = coalesce(CAST(:org AS text), '') AND effective_at <= :at
    ORDER BY effective_at DESC, version DESC LIMIT 1
""")

SELECT_IDS_IN_FORCE = text("""
    SELECT w.n, (
      SELECT b.id FROM price_books b
      WHERE b.currency = w.currency AND coalesce(b.org, '') IN (w.org, '') AND b.effective_at <= w.at
      ORDER BY (b.org IS NULL), b.effective_at DESC, b.version DESC LIMIT 1) AS id
    FROM unnest(CAST(:currencies AS text[]), CAST(:orgs AS text[]), CAST(:ats AS timestamptz[]))
      WITH ORDINALITY AS w (currency, org, at, n)
""")

SELECT_OVERRIDES = text("""
    SELECT models, inherited_times FROM price_overrides
    WHERE currency = :currency AND org = :org AND effective_at <= :at
    ORDER BY effective_at DESC, id DESC LIMIT 1
""")

SELECT_OVERRIDING = text("SELECT DISTINCT org FROM price_overrides WHERE currency = :currency ORDER BY org")

SELECT_PRICES = text("""
    SELECT b.id, b.currency, b.org, b.windows, p.model, p.input_uncached, p.cache_read, p.cache_write, p.output, p.definition
    FROM price_books b JOIN price_book_prices p ON p.price_book = b.id WHERE b.id = ANY(:ids)
    ORDER BY b.id, p.model
""")

SELECT_BOOKS = text("""
    SELECT id, version, published_at, effective_at, base FROM price_books
    WHERE id > :after AND (CAST(:currency AS text) IS NULL OR currency = :currency)
      AND (CAST(:org AS text) IS NULL OR org = :org) ORDER BY id LIMIT :limit
""")
