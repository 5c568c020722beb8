"""Drawing up invoices from the books as they stand: which lines, at which tax. Nothing of a draft is kept.

Usage is read from a snapshot of its own, for all customers at once, and reconciled in it: what ingest commits
meanwhile is not on these invoices, and is found by the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store as charge_store
from headrace_billing.charges.charge import Charge
from headrace_billing.database import Database
from headrace_billing.errors import BillingError
from headrace_billing.invoicing import month, party_store, store, usage_store
from headrace_billing.invoicing.invoice import Invoice, must_bill, unpaid_minor
from headrace_billing.invoicing.lines import (
    AcceptedOutcome,
    Line,
    charge_lines,
    outcome_lines,
    token_lines,
)
from headrace_billing.invoicing.orders import Opened, Order, open_books
from headrace_billing.invoicing.parties import Profile, Seller
from headrace_billing.invoicing.reconciled import refusals
from headrace_billing.invoicing.tax import Assessment, Sale, TaxAdapter
from headrace_billing.invoicing.usage import Portion, portions
from headrace_billing.invoicing.usage_store import Bundled, Closing, Whose
from headrace_billing.rating.book import PriceBook
from headrace_billing.reconciliation.many import Lookout
from headrace_billing.reconciliation.request import Graces

NOTHING_BUNDLED = Bundled(0, 0)


@dataclass(frozen=True, slots=True)
class Books:
    """What every close needs, whichever customer's it is."""

    database: Database
    tax: TaxAdapter
    graces: Graces = field(default_factory=Graces)
    test: bool = False
    """Of an installation that tests: its invoices say so."""


@dataclass(frozen=True, slots=True)
class Draft:
    invoice: Invoice
    """Without an id and a number."""
    portions: Sequence[Portion]
    outcomes: Sequence[AcceptedOutcome]
    project_names: Mapping[str, str]
    bundled: Bundled


async def drawn_up(
    session: AsyncSession,
    books: Books,
    orders: Sequence[Order],
    *,
    now: datetime,
    lookout: Lookout | None = None,
) -> list[Draft | BillingError]:
    """For each order a draft, or why there is none. `lookout` is shared by batches of one run."""
    opened = await open_books(session, orders, now=now)
    ready = [one for one in opened if isinstance(one, Opened)]
    waiting = await month.waiting(session, {one.whose: one.period.end for one in ready})
    for one in ready:
        if one.whose in waiting:
            await month.close_months(
                books.database,
                organization=one.whose.organization,
                currency=one.whose.currency,
                before=one.period.end,
                now=now,
            )
    used = await _used(books, ready, now=now, lookout=lookout)
    upto = {one.whose: one.period.end for one in ready}
    outcomes = await store.lock_accepted(session, upto)
    charges = await charge_store.uninvoiced(session, upto)
    buyers = await party_store.profiles(session, {one.whose.organization: one.customer.name for one in ready})
    sellers: dict[str, Seller] = {}
    sold: dict[Whose, Sold | BillingError] = {}
    for one in ready:
        use = used[one.whose]
        if isinstance(use, BillingError):
            sold[one.whose] = use
            continue
        buyer = buyers[one.whose.organization]
        seller = one.seller or buyer.seller
        try:
            lines = _lines(one, use, outcomes[one.whose], charges[one.whose])
            if seller not in sellers:
                sellers[seller] = await party_store.seller(session, seller)
            sold[one.whose] = Sold(one, use, outcomes[one.whose], lines, sellers[seller], buyer)
        except BillingError as error:
            sold[one.whose] = error
    drafts = await _taxed(session, books, sold, now=now)
    return [drafts[one.whose] if isinstance(one, Opened) else one for one in opened]


@dataclass(frozen=True, slots=True)
class Used:
    portions: Sequence[Portion]
    price_books: Mapping[str, PriceBook]
    project_names: Mapping[str, str]
    bundled: Bundled


@dataclass(frozen=True, slots=True)
class Sold:
    """All of an invoice but its tax."""

    opened: Opened
    used: Used
    outcomes: Sequence[AcceptedOutcome]
    lines: tuple[Line, ...]
    seller: Seller
    buyer: Profile

    @property
    def sale(self) -> Sale:
        return Sale(self.seller, self.buyer, self.opened.whose.currency, unpaid_minor(self.lines))

    def draft(self, tax: Assessment, *, now: datetime) -> Draft:
        invoice = Invoice(
            id="",
            number="",
            seller=self.seller,
            organization=self.opened.whose.organization,
            buyer=self.buyer,
            currency=self.opened.whose.currency,
            period=self.opened.period,
            issued_at=now,
            lines=self.lines,
            tax=tax,
        )
        return Draft(invoice, self.used.portions, self.outcomes, self.used.project_names, self.used.bundled)


async def _used(
    books: Books, ready: Sequence[Opened], *, now: datetime, lookout: Lookout | None
) -> dict[Whose, Used | BillingError]:
    """Usage of one moment, reconciled at that same moment."""
    async with books.database.snapshot() as session:
        months = await usage_store.open_months(session, [one.whose for one in ready])
        closings = [Closing(one.whose, one.period, one.is_first, months[one.whose]) for one in ready]
        refused = await refusals(session, closings, now=now, graces=books.graces, lookout=lookout)
        closings = [closing for closing in closings if closing.whose not in refused]
        usage, priced = await usage_store.usage(session, closings)
        names = await store.project_names(
            session, sorted({closing.whose.organization for closing in closings})
        )
        bundled = await usage_store.bundled(session, closings)
    return {
        **refused,
        **{
            closing.whose: Used(
                portions=portions(
                    usage[closing.whose].counted,
                    usage[closing.whose].invoiced,
                    priced,
                    closed=usage[closing.whose].closed,
                    period=closing.period,
                ),
                price_books=priced,
                project_names=names[closing.whose.organization],
                bundled=bundled.get(closing.whose, NOTHING_BUNDLED),
            )
            for closing in closings
        },
    }


def _lines(
    one: Opened, used: Used, outcomes: Sequence[AcceptedOutcome], charges: Sequence[Charge]
) -> tuple[Line, ...]:
    """Raises `NothingToInvoice`."""
    currency = one.whose.currency
    lines = (
        *token_lines(used.portions, period=one.period, currency=currency, books=used.price_books),
        *outcome_lines(outcomes, currency=currency),
        *charge_lines(charges),
    )
    must_bill(lines, organization=one.whose.organization, currency=currency)
    return lines


async def _taxed(
    session: AsyncSession, books: Books, sold: Mapping[Whose, Sold | BillingError], *, now: datetime
) -> dict[Whose, Draft | BillingError]:
    every = [one for one in sold.values() if isinstance(one, Sold)]
    taxes = await books.tax.assess_all(session, [one.sale for one in every])
    drafts: dict[Whose, Draft | BillingError] = {
        whose: one for whose, one in sold.items() if isinstance(one, BillingError)
    }
    for one, tax in zip(every, taxes, strict=True):
        drafts[one.opened.whose] = tax if isinstance(tax, BillingError) else one.draft(tax, now=now)
    return drafts
