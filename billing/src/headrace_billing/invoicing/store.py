"""Sellers and invoices in Postgres, and the outcomes that go onto one."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.invoicing.invoice import Invoice
from headrace_billing.invoicing.lines import AcceptedOutcome
from headrace_billing.invoicing.parties import Seller
from headrace_billing.invoicing.usage import Portion
from headrace_billing.outcomes.outcome import AcceptedAs


async def lock_books(session: AsyncSession, *, organization: str, currency: str) -> None:
    """One close of an organisation's books in a currency at a time, until the transaction ends."""
    await session.execute(LOCK_BOOKS, {"books": f"close {organization} {currency}"})


async def last_period_end(session: AsyncSession, *, organization: str, currency: str) -> datetime | None:
    found = await session.execute(SELECT_LAST_END, {"org": organization, "currency": currency})
    end: datetime | None = found.scalar_one()
    return end


async def currencies_of(session: AsyncSession, organization: str) -> list[str]:
    """In which the organisation can owe anything at all."""
    rows = await session.execute(SELECT_CURRENCIES, {"org": organization})
    return list(rows.scalars())


async def next_number(session: AsyncSession, seller: str) -> tuple[Seller, int]:
    """The seller, locked until the transaction ends, and the count of its next invoice. Raises `NotFound`."""
    row = (await session.execute(LOCK_SELLER, {"id": seller})).mappings().first()
    if row is None:
        raise NotFound("seller", seller)
    count: int = (await session.execute(SELECT_NEXT_COUNT, {"id": seller})).scalar_one()
    return Seller(**row), count


async def lock_accepted(
    session: AsyncSession, *, organization: str, currency: str, before: datetime
) -> list[AcceptedOutcome]:
    """Accepted outcomes that no invoice shows yet, locked until the transaction ends. `before` is exclusive."""
    rows = await session.execute(LOCK_ACCEPTED, {"org": organization, "currency": currency, "before": before})
    return [
        AcceptedOutcome(
            id=row.id,
            outcome_type=row.outcome_type,
            label=f"{row.outcome_name}@{row.version}",
            price_nanos=int(row.price_nanos),
            accepted_as=AcceptedAs(row.accepted_as),
            prepaid=row.reserved,
        )
        for row in rows
    ]


async def put_on_invoice(
    session: AsyncSession, outcomes: Sequence[AcceptedOutcome], invoice: str, *, settled: bool, at: datetime
) -> None:
    """`invoiced`, and `settled` where nothing is left to pay; each step is in the outcome's history."""
    ids = [outcome.id for outcome in outcomes]
    steps = ("invoiced", "settled") if settled else ("invoiced",)
    for status in steps:
        await session.execute(UPDATE_OUTCOMES, {"ids": ids, "invoice": invoice, "status": status})
        await session.execute(INSERT_HISTORY, {"ids": ids, "invoice": invoice, "status": status, "at": at})


async def add(
    session: AsyncSession,
    invoice: Invoice,
    *,
    sequence: int,
    portions: Sequence[Portion],
    document: dict[str, Any],
) -> None:
    await session.execute(
        INSERT_INVOICE,
        {
            "id": invoice.id,
            "seller": invoice.seller.id,
            "sequence": sequence,
            "number": invoice.number,
            "org": invoice.organization,
            "currency": invoice.currency,
            "period_start": invoice.period.start,
            "period_end": invoice.period.end,
            "issued_at": invoice.issued_at,
            "total_minor": invoice.total_minor,
            "applied_minor": invoice.applied_minor,
            "due_minor": invoice.due_minor,
            "exact_nanos": invoice.exact_nanos,
            "applied_nanos": invoice.applied_nanos,
            "tax_minor": invoice.tax.tax_minor,
            "tax_included": invoice.tax.included,
            "due_at": invoice.due_at,
            "document": json.dumps(document, ensure_ascii=False),
        },
    )
    await session.execute(
        INSERT_LINES,
        [
            {
                "invoice": invoice.id,
                "position": position,
                "kind": line.kind,
                "quantity": line.quantity,
                "amount_minor": line.amount_minor,
                "exact_nanos": line.exact_nanos,
                "prepaid": line.prepaid,
                "project": line.project,
                "model": line.model,
                "price_book": line.price_book,
                "token_class": line.token_class,
                "price_window": line.price_window,
                "service_tier": line.service_tier,
                "price_per_million": line.price_per_million,
                "outcome_type": line.outcome_type,
                "accepted_as": line.accepted_as,
            }
            for position, line in enumerate(invoice.lines, 1)
        ],
    )
    if portions:
        await session.execute(
            INSERT_PORTIONS,
            [
                {
                    "invoice": invoice.id,
                    "org": invoice.organization,
                    "currency": invoice.currency,
                    "span_start": portion.span.start,
                    "span_end": portion.span.end,
                    "tokens": portion.tokens,
                    "nanos": portion.nanos,
                    "month": portion.group.payer.period,
                    "project": portion.group.payer.project,
                    "wallet": portion.group.payer.wallet,
                    "disposition": portion.group.payer.disposition,
                    "price_book": portion.group.price_book,
                    "model": portion.group.model,
                    "token_class": portion.group.line.token_class,
                    "price_window": portion.group.line.window,
                    "service_tier": portion.group.line.service_tier,
                }
                for portion in portions
            ],
        )


async def document_of(session: AsyncSession, invoice: str) -> dict[str, Any]:
    """The invoice as it was issued, by id. Raises `NotFound`."""
    document: dict[str, Any] | None = (await session.execute(SELECT_DOCUMENT, {"id": invoice})).scalar()
    if document is None:
        raise NotFound("invoice", invoice)
    return document


LOCK_BOOKS = text("SELECT pg_advisory_xact_lock(hashtextextended(:books, 0))")

SELECT_LAST_END = text("SELECT max(period_end) FROM invoices WHERE org = :org AND currency = :currency")

SELECT_CURRENCIES = text("SELECT DISTINCT currency FROM projects WHERE org = :org ORDER BY currency")

LOCK_SELLER = text("""
    SELECT id, name, address, tax_id, email, number_prefix, country FROM sellers WHERE id = :id FOR UPDATE
""")

SELECT_NEXT_COUNT = text("SELECT coalesce(max(sequence), 0) + 1 FROM invoices WHERE seller = :id")

LOCK_ACCEPTED = text("""
    SELECT o.id, o.outcome_type, o.outcome_name, y.version, y.price_nanos, o.accepted_as, t.reserved
    FROM outcomes o
    JOIN outcome_types y ON y.id = o.outcome_type
    JOIN tasks t ON t.id = o.task
    WHERE o.org = :org AND y.currency = :currency AND o.status = 'accepted' AND o.accepted_at < :before
    ORDER BY o.id FOR UPDATE OF o
""")

UPDATE_OUTCOMES = text("UPDATE outcomes SET status = :status, invoice = :invoice WHERE id = ANY(:ids)")

INSERT_HISTORY = text("""
    INSERT INTO outcome_history (outcome, status, at, actor, reason)
    SELECT id, :status, :at, 'billing', CAST(:invoice AS text) FROM unnest(CAST(:ids AS text[])) AS o (id)
""")

INSERT_INVOICE = text("""
    INSERT INTO invoices (id, seller, sequence, number, org, currency, period_start, period_end, issued_at,
                          total_minor, applied_minor, due_minor, exact_nanos, applied_nanos, tax_minor,
                          tax_included, due_at, document)
    VALUES (:id, :seller, :sequence, :number, :org, :currency, :period_start, :period_end, :issued_at,
            :total_minor, :applied_minor, :due_minor, :exact_nanos, :applied_nanos, :tax_minor,
            :tax_included, :due_at, CAST(:document AS json))
""")

INSERT_LINES = text("""
    INSERT INTO invoice_lines (invoice, position, kind, quantity, amount_minor, exact_nanos, prepaid, project, model,
                               price_book, token_class, price_window, service_tier, price_per_million, outcome_type,
                               accepted_as)
    VALUES (:invoice, :position, :kind, :quantity, :amount_minor, :exact_nanos, :prepaid, :project, :model,
            :price_book, :token_class, :price_window, :service_tier, CAST(:price_per_million AS numeric), :outcome_type,
            :accepted_as)
""")

INSERT_PORTIONS = text("""
    INSERT INTO invoice_portions (invoice, org, currency, month, project, wallet, price_book, model, disposition,
                                  token_class, price_window, service_tier, span_start, span_end, tokens, nanos)
    VALUES (:invoice, :org, :currency, :month, :project, :wallet, :price_book, :model, :disposition,
            :token_class, :price_window, :service_tier, :span_start, :span_end, :tokens, :nanos)
""")

SELECT_DOCUMENT = text("SELECT document FROM invoices WHERE id = :id")
