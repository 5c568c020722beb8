"""Closing periods: each invoice with its postings and its outcomes, in one transaction, or nothing at all of any.

The close holds the lock of each customer's books. Where several are closed together, one that has to be refused
leaves the others as they are: it is its place in the answer that says why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.charges import store as charge_store
from headrace_billing.errors import BillingError
from headrace_billing.ids import new_id
from headrace_billing.invoicing import store, tax_filing_store
from headrace_billing.invoicing.document import document_of
from headrace_billing.invoicing.drafting import Books, Draft, drawn_up
from headrace_billing.invoicing.invoice import Invoice, number
from headrace_billing.invoicing.orders import Order
from headrace_billing.invoicing.postings import post, taken_from_deferred
from headrace_billing.invoicing.store import Issued
from headrace_billing.ledger import store as ledger
from headrace_billing.reconciliation.many import Lookout

Document = dict[str, Any]


async def close_period(session: AsyncSession, books: Books, order: Order, *, now: datetime) -> Document:
    """The invoice's document.

    Raises `NotFound`, `CurrencyAmbiguous`, `PeriodInvalid`, `NothingToInvoice`, `NotReconciled`, `NotReconciledYet`,
    `TaxUnavailable`, `TaxRefused`.
    """
    (document,) = await close_periods(session, books, [order], now=now)
    if isinstance(document, BillingError):
        raise document
    return document


async def close_periods(
    session: AsyncSession,
    books: Books,
    orders: Sequence[Order],
    *,
    now: datetime,
    lookout: Lookout | None = None,
) -> list[Document | BillingError]:
    """For each order its invoice's document, or why there is none: what `close_period` raises."""
    drafts = await drawn_up(session, books, orders, now=now, lookout=lookout)
    # Last of all, because everybody who invoices waits for the seller's row.
    issued = await _numbered(session, books, [one for one in drafts if isinstance(one, Draft)], now=now)
    if issued:
        await store.add_all(session, issued)
        await store.put_on_invoices(session, issued, at=now)
        await tax_filing_store.note_sales(session, [one.invoice for one in issued], at=now)
        await ledger.post_all(session, [posted for one in issued for posted in post(one.invoice)])
        for one in issued:
            await charge_store.add_deferrals(
                session, one.invoice.id, taken_from_deferred(one.invoice), at=now
            )
    documents = {(one.invoice.organization, one.invoice.currency): one.document for one in issued}
    return [
        documents[one.invoice.organization, one.invoice.currency] if isinstance(one, Draft) else one
        for one in drafts
    ]


async def draft_of(session: AsyncSession, books: Books, order: Order, *, now: datetime) -> Document:
    """What the close would make of the books as they stand now. Raises as `close_period`."""
    (draft,) = await drawn_up(session, books, [order], now=now)
    if isinstance(draft, BillingError):
        raise draft
    return {**_document(books, draft, draft.invoice), "id": None, "number": None, "status": "draft"}


async def _numbered(
    session: AsyncSession, books: Books, drafts: Iterable[Draft], *, now: datetime
) -> list[Issued]:
    by_seller: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_seller.setdefault(draft.invoice.seller.id, []).append(draft)
    issued = []
    for seller_id in sorted(by_seller):
        seller, sequence = await store.next_number(session, seller_id)
        # So that a list by id is one by number.
        ids = sorted(new_id("inv", now) for _ in by_seller[seller_id])
        for count, (invoice_id, draft) in enumerate(zip(ids, by_seller[seller_id], strict=True), sequence):
            invoice = replace(draft.invoice, id=invoice_id, seller=seller, number=number(seller, count))
            document = _document(books, draft, invoice)
            issued.append(Issued(invoice, count, draft.portions, draft.outcomes, document))
    return issued


def _document(books: Books, draft: Draft, invoice: Invoice) -> Document:
    document = document_of(invoice, project_names=draft.project_names, bundled=draft.bundled)
    return {**document, "test": True} if books.test else document
