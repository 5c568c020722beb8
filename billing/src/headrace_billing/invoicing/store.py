"""Invoices in Postgres, many at once, and the outcomes that go onto them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.database import copy_rows
from headrace_billing.errors import NotFound
from headrace_billing.invoicing.invoice import Invoice
from headrace_billing.invoicing.lines import AcceptedOutcome
from headrace_billing.invoicing.parties import Seller
from headrace_billing.invoicing.party_store import seller_of
from headrace_billing.invoicing.usage import Portion
from headrace_billing.invoicing.usage_store import Whose
from headrace_billing.outcomes.outcome import AcceptedAs


async def lock_books(session: AsyncSession, every: Sequence[Whose]) -> None:
    """One close of an organisation's books in a currency at a time, until the transaction ends."""
    names = sorted(f"close {whose.organization} {whose.currency}" for whose in every)
    await session.execute(LOCK_BOOKS, {"books": names})


async def last_period_ends(session: AsyncSession, every: Sequence[Whose]) -> dict[Whose, datetime]:
    """Of those who have an invoice."""
    rows = await session.execute(SELECT_LAST_ENDS, _parameters(every))
    return {Whose(row.org, row.currency): row.period_end for row in rows}


@dataclass(frozen=True, slots=True)
class Customer:
    name: str
    since: datetime
    """Nothing of an organisation can be older than itself, but clocks differ."""


async def customers(session: AsyncSession, organizations: Sequence[str]) -> dict[str, Customer]:
    """Those that exist."""
    rows = await session.execute(SELECT_CUSTOMERS, {"orgs": list(organizations)})
    return {row.id: Customer(row.name, row.since) for row in rows}


async def project_names(session: AsyncSession, organizations: Sequence[str]) -> dict[str, dict[str, str]]:
    """By organisation and id."""
    found: dict[str, dict[str, str]] = {organization: {} for organization in organizations}
    for row in await session.execute(SELECT_PROJECT_NAMES, {"orgs": list(organizations)}):
        found[row.org][row.id] = row.name
    return found


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
    return seller_of(row), count


async def lock_accepted(
    session: AsyncSession, every: Mapping[Whose, datetime]
) -> dict[Whose, list[AcceptedOutcome]]:
    """Accepted outcomes that no invoice shows yet, locked until the transaction ends; each time is exclusive."""
    found: dict[Whose, list[AcceptedOutcome]] = {whose: [] for whose in every}
    rows = await session.execute(LOCK_ACCEPTED, {**_parameters(list(every)), "befores": list(every.values())})
    for row in rows:
        found[Whose(row.org, row.currency)].append(
            AcceptedOutcome(
                id=row.id,
                outcome_type=row.outcome_type,
                label=f"{row.outcome_name}@{row.version}",
                price_nanos=int(row.price_nanos),
                accepted_as=AcceptedAs(row.accepted_as),
                prepaid=row.reserved,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Issued:
    """An invoice with its number, and all that goes into the books with it."""

    invoice: Invoice
    sequence: int
    portions: Sequence[Portion]
    outcomes: Sequence[AcceptedOutcome]
    document: dict[str, Any]


async def put_on_invoices(session: AsyncSession, every: Sequence[Issued], *, at: datetime) -> None:
    """`invoiced`, and `settled` where nothing is left to pay; each step is in the outcome's history."""
    pairs = [(outcome.id, issued.invoice) for issued in every for outcome in issued.outcomes]
    for status in ("invoiced", "settled"):
        reached = [
            (outcome, invoice.id)
            for outcome, invoice in pairs
            if status == "invoiced" or invoice.due_minor == 0
        ]
        if reached:
            ids, invoices = zip(*reached, strict=True)
            parameters = {"ids": list(ids), "invoices": list(invoices), "status": status, "at": at}
            await session.execute(UPDATE_OUTCOMES, parameters)
            await session.execute(INSERT_HISTORY, parameters)


async def add_all(session: AsyncSession, every: Sequence[Issued]) -> None:
    """In the order of their numbers."""
    await copy_rows(
        session,
        COPY_INVOICES,
        [
            (
                invoice.id,
                invoice.seller.id,
                issued.sequence,
                invoice.number,
                invoice.organization,
                invoice.currency,
                invoice.period.start,
                invoice.period.end,
                invoice.issued_at,
                invoice.total_minor,
                invoice.applied_minor,
                invoice.due_minor,
                invoice.exact_nanos,
                invoice.applied_nanos,
                invoice.tax.tax_minor,
                invoice.tax.included,
                invoice.due_at,
                msgspec.json.encode(issued.document).decode(),
            )
            for issued in every
            for invoice in (issued.invoice,)
        ],
    )
    await copy_rows(
        session,
        COPY_LINES,
        [
            (
                issued.invoice.id,
                position,
                line.kind.value,
                line.quantity,
                line.amount_minor,
                line.exact_nanos,
                line.prepaid,
                line.project,
                line.model,
                line.price_book,
                None if line.token_class is None else line.token_class.value,
                line.price_window,
                line.service_tier.value,
                line.price_per_million,
                line.outcome_type,
                None if line.accepted_as is None else line.accepted_as.value,
                None if line.charge is None else line.charge.id,
            )
            for issued in every
            for position, line in enumerate(issued.invoice.lines, 1)
        ],
    )
    await copy_rows(
        session,
        COPY_PORTIONS,
        [
            (
                issued.invoice.id,
                issued.invoice.organization,
                issued.invoice.currency,
                payer.period,
                payer.project,
                payer.wallet,
                group.price_book,
                group.model,
                payer.disposition.value,
                group.line.token_class.value,
                group.line.window,
                group.line.service_tier.value,
                portion.span.start,
                portion.span.end,
                portion.tokens,
                portion.nanos,
            )
            for issued in every
            for portion in issued.portions
            for group, payer in ((portion.group, portion.group.payer),)
        ],
    )


async def document_of(session: AsyncSession, invoice: str) -> dict[str, Any]:
    """The invoice as it was issued, by id. Raises `NotFound`."""
    document: dict[str, Any] | None = (await session.execute(SELECT_DOCUMENT, {"id": invoice})).scalar()
    if document is None:
        raise NotFound("invoice", invoice)
    return document


def _parameters(every: Sequence[Whose]) -> dict[str, Any]:
    return {
        "orgs": [whose.organization for whose in every],
        "currencies": [whose.currency for whose in every],
    }


COPY_INVOICES: LiteralString = """
    COPY invoices (
      id, seller, sequence, number, org, currency, period_start, period_end, issued_at, total_minor,
      applied_minor, due_minor, exact_nanos, applied_nanos, tax_minor, tax_included, due_at,
      document
    ) FROM STDIN
"""
COPY_LINES: LiteralString = """
    COPY invoice_lines (
      invoice, position, kind, quantity, amount_minor, exact_nanos, prepaid, project, model,
      price_book, token_class, price_window, service_tier, price_per_million, outcome_type,
      accepted_as, charge
    ) FROM STDIN
"""
COPY_PORTIONS: LiteralString = """
    COPY invoice_portions (
      invoice, org, currency, month, project, wallet, price_book, model, disposition, token_class,
      price_window, service_tier, span_start, span_end, tokens, nanos
    ) FROM STDIN
"""

# In one order for all, so that two sessions can't wait for each other.
LOCK_BOOKS = text("""
    SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(CAST(:books AS text[])) AS b (name)
""")

SELECT_LAST_ENDS = text("""
    SELECT i.org, i.currency, max(i.period_end) AS period_end
    FROM unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[])) AS s (org, currency)
    JOIN invoices i ON i.org = s.org AND i.currency = s.currency
    GROUP BY i.org, i.currency
""")

SELECT_CUSTOMERS = text("""
    SELECT o.id, o.name, least(o.created_at, (SELECT min(e.received_at) FROM usage_events e WHERE e.org = o.id)) AS since
    FROM organizations o WHERE o.id = ANY(:orgs)
""")

SELECT_PROJECT_NAMES = text("SELECT org, id, name FROM projects WHERE org = ANY(:orgs)")

SELECT_CURRENCIES = text("SELECT DISTINCT currency FROM projects WHERE org = :org ORDER BY currency")

LOCK_SELLER = text("""
    SELECT id, name, address, tax_id, email, number_prefix, country, e_invoice FROM sellers WHERE id = :id FOR UPDATE
""")

SELECT_NEXT_COUNT = text("SELECT coalesce(max(sequence), 0) + 1 FROM invoices WHERE seller = :id")

LOCK_ACCEPTED = text("""
    SELECT o.org, y.currency, o.id, o.outcome_type, o.outcome_name, y.version, y.price_nanos, o.accepted_as, t.reserved
    FROM unnest(CAST(:orgs AS text[]), CAST(:currencies AS text[]), CAST(:befores AS timestamptz[]))
      AS s (org, currency, before)
    JOIN outcomes o ON o.org = s.org
    JOIN outcome_types y ON y.id = o.outcome_type AND y.currency = s.currency
    JOIN tasks t ON t.id = o.task
    WHERE o.status = 'accepted' AND o.accepted_at < s.before
    ORDER BY o.id FOR UPDATE OF o
""")

UPDATE_OUTCOMES = text("""
    UPDATE outcomes o SET status = :status, invoice = s.invoice
    FROM unnest(CAST(:ids AS text[]), CAST(:invoices AS text[])) AS s (id, invoice) WHERE o.id = s.id
""")

INSERT_HISTORY = text("""
    INSERT INTO outcome_history (outcome, status, at, actor, reason)
    SELECT id, :status, :at, 'billing', invoice FROM unnest(CAST(:ids AS text[]), CAST(:invoices AS text[])) AS s (id, invoice)
""")

SELECT_DOCUMENT = text("SELECT document FROM invoices WHERE id = :id")
