"""What an invoice moves in the ledger: exact amounts leave, rounded ones arrive, the difference is named."""

from datetime import timedelta

from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.invoicing.invoice import Invoice
from headrace_billing.invoicing.lines import Source
from headrace_billing.invoicing.tax import contained_by_source
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    net,
)


def post(invoice: Invoice) -> tuple[Transaction, ...]:
    """`unbilled` becomes a receivable, and the credit that was burnt for it pays its part of that at once."""
    receivable = Account(AccountKind.RECEIVABLE, invoice.organization, invoice.currency)
    unbilled = Account(AccountKind.UNBILLED, invoice.organization, invoice.currency)
    applied = Account(AccountKind.WALLET_APPLIED, invoice.organization, invoice.currency)
    unit = nanos_per_minor(invoice.currency)
    billed = _exchange(
        invoice,
        f"invoice:{invoice.id}",
        TransactionKind.INVOICE,
        {
            receivable: (invoice.total_minor + invoice.tax.added_minor) * unit,
            unbilled: -invoice.exact_nanos,
            business(AccountKind.TAX_PAYABLE, invoice.currency): -invoice.tax.added_minor * unit,
        },
    )
    paid = _exchange(
        invoice,
        f"credit-applied:{invoice.id}",
        TransactionKind.CREDIT_APPLIED,
        {applied: invoice.applied_nanos, receivable: -invoice.applied_minor * unit},
    )
    every = (_contained_tax(invoice), billed, paid)
    return tuple(transaction for transaction in every if transaction is not None)


def contained_tax(invoice: Invoice) -> dict[Source, int]:
    """In minor units, where prices hold the tax: from where it comes."""
    if not invoice.tax.included or not invoice.tax.tax_minor:
        return {}
    unpaid = ((line.source, line.amount_minor) for line in invoice.lines if not line.prepaid)
    return contained_by_source(invoice.tax.tax_minor, unpaid)


def taken_from_deferred(invoice: Invoice) -> dict[str, int]:
    """By charge, in nano-units below zero: the tax in what is deferred is no revenue to come."""
    unit = nanos_per_minor(invoice.currency)
    return {
        source.charge: -minor * unit
        for source, minor in contained_tax(invoice).items()
        if source.charge is not None and source.account is AccountKind.DEFERRED
    }


def _contained_tax(invoice: Invoice) -> Transaction | None:
    """Usage was recognised at the prices that hold the tax: it is taken out in the month that the usage was in."""
    shares = contained_tax(invoice)
    if not shares:
        return None
    unit = nanos_per_minor(invoice.currency)
    return Transaction(
        key=f"tax-contained:{invoice.id}",
        kind=TransactionKind.TAX_CONTAINED,
        currency=invoice.currency,
        occurred_at=min(invoice.issued_at, invoice.period.end - timedelta(microseconds=1)),
        postings=net(
            (
                *(
                    Posting(business(source.account, invoice.currency), minor * unit)
                    for source, minor in shares.items()
                    if minor
                ),
                Posting(business(AccountKind.TAX_PAYABLE, invoice.currency), -invoice.tax.tax_minor * unit),
            )
        ),
        memo={"invoice": invoice.id, "number": invoice.number},
    )


def _exchange(
    invoice: Invoice, key: str, kind: TransactionKind, amounts: dict[Account, int]
) -> Transaction | None:
    """The amounts, and what they lack to zero as rounding; null where nothing moves."""
    rounding = -sum(amounts.values())
    # A line is off by at most half a minor unit, and by a nano-unit for each of its months.
    bound = (nanos_per_minor(invoice.currency) // 2 + ROUNDED_PORTIONS_MAX) * len(invoice.lines)
    assert abs(rounding) <= bound, (
        f"{invoice.id}: {rounding} nano-units of rounding on {len(invoice.lines)} lines"
    )
    moved = {**amounts, business(AccountKind.ROUNDING, invoice.currency): rounding}
    postings = tuple(Posting(account, nanos) for account, nanos in moved.items() if nanos)
    if not postings:
        return None
    return Transaction(
        key=key,
        kind=kind,
        currency=invoice.currency,
        occurred_at=invoice.issued_at,
        postings=postings,
        memo={"invoice": invoice.id, "number": invoice.number},
    )


ROUNDED_PORTIONS_MAX = 1_000
"""Months and adjustments that one line may gather, each with half a nano-unit of its own at each of its ends."""
