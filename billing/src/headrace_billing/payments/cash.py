"""What Stripe's own books make of ours: its fees, and conversions into the account's currency.

The customer's side is posted in the customer's currency against `cash_clearing`. Whatever Stripe then books is
posted here, once a balance transaction, so that `cash_clearing` of each currency is what Stripe says the account has.
"""

from datetime import datetime

from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger.transaction import AccountKind, Transaction, TransactionKind, business, move
from headrace_billing.payments.money_seen import Settlement


def settlement_transactions(
    settlement: Settlement, *, moved_minor: int, currency: str, at: datetime
) -> list[Transaction]:
    """`moved_minor` in `currency` is what our own posting moved; positive came in.

    What Stripe booked otherwise is not made to fit: `cash_clearing` then differs, and reconciliation says so.
    """
    transactions = []
    memo = {"balance_transaction": settlement.id}
    settled = settlement.currency
    if settled != currency:
        out = moved_minor * nanos_per_minor(currency)
        back = settlement.amount_minor * nanos_per_minor(settled)
        for code, nanos, name in ((currency, -out, "fx_out"), (settled, back, "fx_in")):
            postings = move(
                nanos,
                debit=business(AccountKind.CASH_CLEARING, code),
                credit=business(AccountKind.FX, code),
            )
            if postings:
                transactions.append(
                    Transaction(
                        key=f"stripe:{settlement.id}:{name}",
                        kind=TransactionKind.CASH_CONVERTED,
                        currency=code,
                        occurred_at=at,
                        postings=postings,
                        memo=memo,
                    )
                )
    fee = move(
        settlement.fee_minor * nanos_per_minor(settled),
        debit=business(AccountKind.PSP_FEES, settled),
        credit=business(AccountKind.CASH_CLEARING, settled),
    )
    if fee:
        transactions.append(
            Transaction(
                key=f"stripe:{settlement.id}:fee",
                kind=TransactionKind.PSP_FEE,
                currency=settled,
                occurred_at=at,
                postings=fee,
                memo=memo,
            )
        )
    return transactions
