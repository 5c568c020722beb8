"""Price books in Postgres: a version is published whole, becomes current at once, and never changes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.rating.price import PriceBook, Prices, TokenClass, price_text, scaled
from headrace_contracts import channels
from headrace_contracts.access import PriceCard


@dataclass(frozen=True, slots=True)
class Published:
    book: PriceBook
    version: int
    published_at: datetime


async def publish(
    session: AsyncSession, *, currency: str, models: Mapping[str, Prices], at: datetime
) -> tuple[Published, str]:
    """The new version, and the Valkey key of its card, to push once the transaction stands."""
    # One at a time for a currency, so that versions have no gap and the newest is the one that stands in Valkey.
    await session.execute(LOCK, {"currency": currency})
    version: int = (await session.execute(NEXT_VERSION, {"currency": currency})).scalar_one()
    book = PriceBook(f"pb_{currency.lower()}_{version}", currency, models)
    await session.execute(
        INSERT_BOOK, {"id": book.id, "currency": currency, "version": version, "published_at": at}
    )
    rows = [
        {"model": model, **{kind: price_text(price) for kind, price in prices.by_class.items()}}
        for model, prices in models.items()
    ]
    await session.execute(INSERT_PRICES, {"id": book.id, "rows": json.dumps(rows)})
    card = PriceCard(
        price_book=book.id,
        currency=currency,
        models={model: prices.model_price() for model, prices in models.items()},
    )
    key = channels.prices(currency)
    await outbox.write(session, key, card)
    return Published(book, version, at), key


async def price_books(session: AsyncSession, ids: Iterable[str]) -> dict[str, PriceBook]:
    """Those of `ids` that exist."""
    books: dict[str, tuple[str, dict[str, Prices]]] = {}
    for row in await session.execute(SELECT_PRICES, {"ids": sorted(set(ids))}):
        _, models = books.setdefault(row.id, (row.currency, {}))
        models[row.model] = Prices(
            {
                TokenClass.INPUT_UNCACHED: scaled(row.input_uncached),
                TokenClass.CACHE_READ: scaled(row.cache_read),
                TokenClass.CACHE_WRITE: scaled(row.cache_write),
                TokenClass.OUTPUT: scaled(row.output),
            }
        )
    return {book: PriceBook(book, currency, models) for book, (currency, models) in books.items()}


async def published(
    session: AsyncSession, *, currency: str | None, after: str, limit: int
) -> list[Published]:
    rows = (await session.execute(SELECT_BOOKS, {"currency": currency, "after": after, "limit": limit})).all()
    books = await price_books(session, [row.id for row in rows])
    return [Published(books[row.id], row.version, row.published_at) for row in rows]


LOCK = text("SELECT pg_advisory_xact_lock(hashtext('price_books'), hashtext(:currency))")

NEXT_VERSION = text("SELECT coalesce(max(version), 0) + 1 FROM price_books WHERE currency = :currency")

INSERT_BOOK = text("""
    INSERT INTO price_books (id, currency, version, published_at)
    VALUES (:id, :currency, :version, :published_at)
""")

INSERT_PRICES = text("""
    INSERT INTO price_book_prices (price_book, model, input_uncached, cache_read, cache_write, output)
    SELECT :id, model, input_uncached, cache_read, cache_write, output
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
      AS r (model text, input_uncached numeric, cache_read numeric, cache_write numeric, output numeric)
""")

SELECT_PRICES = text("""
    SELECT b.id, b.currency, p.model, p.input_uncached, p.cache_read, p.cache_write, p.output
    FROM price_books b JOIN price_book_prices p ON p.price_book = b.id WHERE b.id = ANY(:ids)
""")

SELECT_BOOKS = text("""
    SELECT id, version, published_at FROM price_books
    WHERE id > :after AND (CAST(:currency AS text) IS NULL OR currency = :currency) ORDER BY id LIMIT :limit
""")
