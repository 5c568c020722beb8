"""What the books hold of one request: its events, what they were posted with, and the invoice lines that count it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.ingest.arrival import CHARGED
from headrace_billing.rating.book import PriceLine
from headrace_contracts.usage import Grade, UsageEvent, decode_event


@dataclass(frozen=True, slots=True)
class StoredEvent:
    event: UsageEvent
    batch: int
    source: str
    """By which way it came: `stream` or `journal`."""
    received_at: datetime
    stored_at: datetime
    price_window: str

    @property
    def payer(self) -> str:
        """The end of the key of every transaction that charges it."""
        event, month = self.event, self.received_at.astimezone(UTC)
        return f"{month:%Y-%m}:{event.project}:{event.wallet}:{event.disposition}"


@dataclass(frozen=True, slots=True)
class Posted:
    """A ledger transaction that took the request in, with everything else of its batch and payer."""

    id: int
    key: str
    grade: Grade
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    invoice: str
    number: str
    issued_at: datetime
    position: int
    token_class: str
    quantity: int
    amount_minor: int


async def events_of(session: AsyncSession, request: UUID) -> list[StoredEvent]:
    """An estimate before its final event."""
    rows = await session.execute(SELECT_EVENTS, {"id": request})
    return [
        StoredEvent(
            decode_event(row.payload.encode()),
            row.batch,
            row.source,
            row.received_at,
            row.stored_at,
            row.price_window or "",
        )
        for row in rows
    ]


async def postings_of(session: AsyncSession, events: Sequence[StoredEvent]) -> list[Posted]:
    grades = {
        f"usage:{stored.batch}:{stored.payer}": stored.event.grade
        for stored in events
        if stored.event.disposition in CHARGED
    }
    rows = await session.execute(SELECT_TRANSACTIONS, {"keys": list(grades)})
    return [Posted(row.id, row.key, grades[row.key], row.recorded_at) for row in rows]


async def invoice_lines_of(
    session: AsyncSession, counted: StoredEvent, lines: Sequence[PriceLine]
) -> list[InvoiceLine]:
    """`lines`: those that price its tokens. An invoice counts what was stored when it was drawn up."""
    event = counted.event
    rows = await session.execute(
        SELECT_LINES,
        {
            "org": event.org,
            "currency": event.currency,
            "project": event.project,
            "wallet": event.wallet,
            "price_book": event.price_book,
            "model": event.model_served,
            "disposition": event.disposition,
            "received_at": counted.received_at,
            "stored_at": counted.stored_at,
            "classes": [line.token_class for line in lines],
            "windows": [line.window for line in lines],
            "tiers": [line.service_tier for line in lines],
        },
    )
    return [
        InvoiceLine(
            row.invoice,
            row.number,
            row.issued_at,
            row.position,
            row.token_class,
            int(row.quantity),
            int(row.amount_minor),
        )
        for row in rows
    ]


SELECT_EVENTS = text("""
    SELECT e.payload, e.batch, b.source, e.received_at, e.stored_at, e.price_window
    FROM usage_events e JOIN ingest_batches b ON b.id = e.batch
    WHERE e.id = :id ORDER BY e.grade
""")

SELECT_TRANSACTIONS = text("""
    SELECT id, key, recorded_at FROM ledger_transactions WHERE key = ANY(:keys) ORDER BY id
""")

# Later invoices take in of a span only what came after the one before: so the first drawn up since counts it.
SELECT_LINES = text("""
    WITH priced AS (
      SELECT * FROM unnest(CAST(:classes AS text[]), CAST(:windows AS text[]), CAST(:tiers AS text[]))
        AS p (token_class, price_window, service_tier)
    ), counting AS (
      SELECT DISTINCT ON (token_class, price_window, service_tier)
             token_class, price_window, service_tier, o.span_start, i.id, i.number, i.issued_at, i.period_start
      FROM invoice_portions o
      JOIN priced USING (token_class, price_window, service_tier)
      JOIN invoices i ON i.id = o.invoice
      WHERE o.org = :org AND o.currency = :currency AND o.project = :project AND o.wallet = :wallet
        AND o.price_book = :price_book AND o.model = :model AND o.disposition = :disposition
        AND o.span_start <= :received_at AND :received_at < o.span_end AND i.issued_at >= :stored_at
      ORDER BY token_class, price_window, service_tier, i.issued_at
    )
    SELECT c.id AS invoice, c.number, c.issued_at, l.position, l.token_class, l.quantity, l.amount_minor
    FROM counting c
    JOIN invoice_lines l ON l.invoice = c.id AND l.token_class = c.token_class
      AND l.price_window = c.price_window AND l.service_tier = c.service_tier
    WHERE l.project = :project AND l.model = :model AND l.price_book = :price_book
      AND l.prepaid = (:disposition IN ('prepaid', 'commitment'))
      AND (l.kind = 'adjustment') = (c.span_start < c.period_start)
    ORDER BY l.position
""")
