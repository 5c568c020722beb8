"""Closing a period: one invoice, its postings and its outcomes in one transaction, or nothing at all.

The close holds the books' lock, and reads usage from a snapshot of its own: what ingest commits meanwhile is not on
this invoice, and is found by the next. A draft is the same without the number, and nothing of it is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store as accounts
from headrace_billing.accounts.key import Organization
from headrace_billing.database import Database
from headrace_billing.errors import BillingError
from headrace_billing.ids import new_id
from headrace_billing.invoicing import party_store, store, usage_store
from headrace_billing.invoicing.document import document_of
from headrace_billing.invoicing.invoice import Invoice, must_bill, next_period, number, unpaid_minor
from headrace_billing.invoicing.lines import AcceptedOutcome, outcome_lines, token_lines
from headrace_billing.invoicing.month import close_months
from headrace_billing.invoicing.postings import post
from headrace_billing.invoicing.tax import Sale, TaxAdapter
from headrace_billing.invoicing.usage import Portion, Span, portions
from headrace_billing.invoicing.usage_store import Bundled, Whose
from headrace_billing.ledger import store as ledger
from headrace_billing.rating.book import PriceBook
from headrace_billing.rating.store import price_books
from headrace_billing.reconciliation.reconciling import reconcile
from headrace_billing.reconciliation.report import Report, Scope
from headrace_billing.reconciliation.request import Graces, Status

NO_NUMBER = "DRAFT"
CULPRITS_SHOWN_MAX = 20


class CurrencyAmbiguous(BillingError):
    """The organisation has books in several currencies, or in none."""

    code = "currency_ambiguous"

    def __init__(self, currencies: list[str]) -> None:
        super().__init__(
            f"Name the currency: the organization has projects in {', '.join(currencies) or 'none'}."
        )


class NotReconciled(BillingError):
    """Requests or books of the organisation do not add up; the members name the culprits."""

    code = "reconciliation_red"

    def __init__(self, report: Report) -> None:
        super().__init__(
            "The period is not invoiced until it is reconciled: see `unreconciled` and GET /v1/reconciliation."
        )
        document = report.document()
        self.members: dict[str, Any] = {
            "reasons": document["reasons"],
            "unreconciled": document["unreconciled"][:CULPRITS_SHOWN_MAX],
        }


class NotReconciledYet(NotReconciled):
    """Nothing is wrong, but records of some requests are still on their way."""

    code = "reconciliation_pending"


@dataclass(frozen=True, slots=True)
class Order:
    organization: str
    currency: str | None
    start: datetime | None
    end: datetime | None
    seller: str | None = None
    """Null means the one of the customer's billing profile."""


@dataclass(frozen=True, slots=True)
class Books:
    """What every close needs, whichever customer's it is."""

    database: Database
    tax: TaxAdapter
    graces: Graces = field(default_factory=Graces)
    test: bool = False
    """Of an installation that tests: its invoices say so."""


async def close_period(session: AsyncSession, books: Books, order: Order, *, now: datetime) -> dict[str, Any]:
    """The invoice's document.

    Raises `NotFound`, `CurrencyAmbiguous`, `PeriodInvalid`, `NothingToInvoice`, `NotReconciled`, `NotReconciledYet`,
    `TaxUnavailable`.
    """
    draft = await _drawn_up(session, books, order, now=now)
    # Last of all, because everybody who invoices waits for this row.
    seller, sequence = await store.next_number(session, draft.invoice.seller.id)
    invoice = replace(draft.invoice, seller=seller, number=number(seller, sequence))
    document = draft.document(invoice, test=books.test)
    await store.add(session, invoice, sequence=sequence, portions=draft.used.portions, document=document)
    settled = invoice.due_minor == 0
    await store.put_on_invoice(session, draft.outcomes, invoice.id, settled=settled, at=now)
    await ledger.post_all(session, post(invoice))
    return document


async def draft_of(session: AsyncSession, books: Books, order: Order, *, now: datetime) -> dict[str, Any]:
    """What the close would make of the books as they stand now. Raises as `close_period`."""
    draft = await _drawn_up(session, books, order, now=now)
    return {**draft.document(draft.invoice, test=books.test), "id": None, "number": None, "status": "draft"}


@dataclass(frozen=True, slots=True)
class Draft:
    invoice: Invoice
    used: "Used"
    outcomes: Sequence[AcceptedOutcome]

    def document(self, invoice: Invoice, *, test: bool) -> dict[str, Any]:
        document = document_of(invoice, project_names=self.used.project_names, bundled=self.used.bundled)
        return {**document, "test": True} if test else document


async def _drawn_up(session: AsyncSession, books: Books, order: Order, *, now: datetime) -> Draft:
    organization = await accounts.organization(session, order.organization)
    currency = await _currency(session, order)
    await store.lock_books(session, organization=organization.id, currency=currency)
    period = next_period(
        start=order.start,
        end=order.end or now,
        last_end=await store.last_period_end(session, organization=organization.id, currency=currency),
        since=await _since(session, organization),
        now=now,
    )
    await close_months(
        books.database, organization=organization.id, currency=currency, before=period.end, now=now
    )
    used = await _used(books, Whose(organization.id, currency), period, now=now)
    outcomes = await store.lock_accepted(
        session, organization=organization.id, currency=currency, before=period.end
    )
    lines = (
        *token_lines(used.portions, period=period, currency=currency, books=used.price_books),
        *outcome_lines(outcomes, currency=currency),
    )
    must_bill(lines, organization=organization.id, currency=currency)
    buyer = await party_store.profile(session, organization.id, name=organization.name)
    seller = await party_store.seller(session, order.seller or buyer.seller)
    tax = await books.tax.assess(session, Sale(seller, buyer, currency, unpaid_minor(lines)))
    invoice = Invoice(
        id=new_id("inv", now),
        number=NO_NUMBER,
        seller=seller,
        organization=organization.id,
        buyer=buyer,
        currency=currency,
        period=period,
        issued_at=now,
        lines=lines,
        tax=tax,
    )
    return Draft(invoice, used, outcomes)


@dataclass(frozen=True, slots=True)
class Used:
    portions: list[Portion]
    price_books: dict[str, PriceBook]
    project_names: dict[str, str]
    bundled: Bundled


async def _used(books: Books, whose: Whose, period: Span, *, now: datetime) -> Used:
    """Usage of one moment, reconciled at that same moment."""
    async with books.database.snapshot() as session:
        months = await usage_store.open_months(session, whose)
        # Late usage goes onto this invoice, too, so it is reconciled with the rest.
        start = min([period.start, *(datetime.combine(month, time(), UTC) for month in months)])
        scope = Scope(whose.organization, start, period.end)
        report = await reconcile(session, scope, now=now, graces=books.graces)
        match report.status:
            case Status.RED:
                raise NotReconciled(report)
            case Status.PENDING:
                raise NotReconciledYet(report)
            case Status.GREEN:
                pass
        counted, priced = await usage_store.counted(session, whose, months=months, period=period)
        invoiced = await usage_store.invoiced(session, whose, months=months)
        priced |= await price_books(session, {p.group.price_book for p in invoiced} - priced.keys())
        closed = await usage_store.closed(session, whose, months=months)
        return Used(
            portions=portions(counted, invoiced, priced, closed=closed, period=period),
            price_books=priced,
            project_names=await _project_names(session, whose.organization),
            bundled=await usage_store.bundled(session, whose, period=period),
        )


async def _currency(session: AsyncSession, order: Order) -> str:
    if order.currency is not None:
        return order.currency
    currencies = await store.currencies_of(session, order.organization)
    if len(currencies) != 1:
        raise CurrencyAmbiguous(currencies)
    return currencies[0]


async def _since(session: AsyncSession, organization: Organization) -> datetime:
    """Where the first period begins: nothing of an organisation can be older than itself, but clocks differ."""
    first: datetime | None = (
        await session.execute(SELECT_FIRST_USAGE, {"org": organization.id})
    ).scalar_one()
    return min(organization.created_at, first or organization.created_at)


async def _project_names(session: AsyncSession, organization: str) -> dict[str, str]:
    rows = await session.execute(SELECT_PROJECT_NAMES, {"org": organization})
    return {row.id: row.name for row in rows}


SELECT_FIRST_USAGE = text("SELECT min(received_at) FROM usage_events WHERE org = :org")

SELECT_PROJECT_NAMES = text("SELECT id, name FROM projects WHERE org = :org")
