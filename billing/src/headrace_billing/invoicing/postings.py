"""What an invoice moves in the ledger: exact amounts leave, rounded ones arrive, the difference is named."""

from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.invoicing.invoice import Invoice
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
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
            receivable: (invoice.total_minor + invoice.tax.tax_minor) * unit,
            unbilled: -invoice.exact_nanos,
            business(AccountKind.TAX_PAYABLE, invoice.currency): -invoice.tax.tax_minor * unit,
        },
    )
    paid = _exchange(
        invoice,
        f"credit-applied:{invoice.id}",
        TransactionKind.CREDIT_APPLIED,
        {applied: invoice.applied_nanos, receivable: -invoice.applied_minor * unit},
    )
    return tuple(transaction for transaction in (billed, paid) if transaction is not None)


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
