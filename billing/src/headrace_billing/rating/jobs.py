"""A price book comes into force: gateways are told to admit by it, in one transaction with the note that they were.

Whoever dies on the way has told nobody, and the next run does it; what was written is pushed by the outbox's loop.
"""

from dataclasses import dataclass, field
from datetime import datetime

import structlog
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.accounts import store as accounts
from headrace_billing.database import Database
from headrace_billing.rating import publishing, store
from headrace_contracts import channels
from headrace_contracts.access import PriceCard

log = structlog.get_logger()


@dataclass(slots=True)
class Written:
    """Valkey keys of records, to push once the transaction stands: cards before the projects that lead to them."""

    cards: list[str] = field(default_factory=list)
    projects: list[str] = field(default_factory=list)

    async def push(self, database: Database, valkey: Redis) -> None:
        """Raises `ValkeyError`; the outbox's loop pushes what this doesn't."""
        await outbox.push(database, valkey, self.cards)
        await outbox.push(database, valkey, self.projects)


async def put_into_force(database: Database, valkey: Redis, *, now: datetime) -> None:
    async with database.begin() as session:
        if not (await session.execute(SELECT_DUE, {"at": now})).all():
            return
        written = await put_due_into_force(session, at=now)
    await written.push(database, valkey)


async def put_due_into_force(session: AsyncSession, *, at: datetime) -> Written:
    """Writes the cards of all books that are in force at `at` and that gateways were not told of."""
    await publishing.lock(session)
    due = (await session.execute(SELECT_DUE, {"at": at})).all()
    books = await store.price_books(session, [row.id for row in due])
    written = Written()
    own_from_now = set()
    for row in due:
        book = books[row.id]
        place = channels.prices(channels.price_list(book.currency, row.org) if row.org else book.currency)
        card = PriceCard(
            price_book=book.id,
            currency=book.currency,
            models={model: prices.model_price() for model, prices in book.models.items()},
            batch_models={
                model: price
                for model, prices in book.models.items()
                if (price := prices.batch_price()) is not None
            },
        )
        await outbox.write(session, place, card)
        await session.execute(UPSERT_CARD, {"currency": book.currency, "org": row.org, "price_book": book.id})
        written.cards.append(place)
        if row.org and row.card is None:
            own_from_now.add(row.org)
        log.info("price_book_in_force", price_book=book.id)
    for org in sorted(own_from_now):
        written.projects += await accounts.write_projects(session, org)
    return written


SELECT_DUE = text("""
    SELECT b.id, b.org, c.price_book AS card
    FROM (SELECT DISTINCT currency, coalesce(org, '') AS org FROM price_books) AS l
    CROSS JOIN LATERAL (
      SELECT id, coalesce(org, '') AS org FROM price_books
      WHERE currency = l.currency AND coalesce(org, '') = l.org AND effective_at <= :at
      ORDER BY effective_at DESC, version DESC LIMIT 1) AS b
    LEFT JOIN price_cards c ON c.currency = l.currency AND c.org = l.org
    WHERE c.price_book IS DISTINCT FROM b.id
    ORDER BY b.org, b.id
""")

UPSERT_CARD = text("""
    INSERT INTO price_cards (currency, org, price_book) VALUES (:currency, :org, :price_book)
    ON CONFLICT (currency, org) DO UPDATE SET price_book = excluded.price_book
""")
