"""What a charge for usage posts: revenue for everybody, and the wallet at once for those who paid ahead."""

from datetime import datetime

from headrace_billing.ledger.lots import Holdings, charge
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
)
from headrace_billing.rating.cumulative import Payer
from headrace_contracts.usage import Disposition


def usage_transaction(
    payer: Payer, amount_nanos: int, *, batch: int, occurred_at: datetime, holdings: Holdings | None
) -> Transaction:
    """`amount_nanos` may be negative, when a final event was smaller than its estimate.

    Unbilled against revenue; and where the project is prepaid, its lots against credit applied, so that the
    invoice has nothing left to collect for it.
    """
    unbilled = Account(AccountKind.UNBILLED, payer.org, payer.currency)
    revenue = business(AccountKind.REVENUE_TOKENS, payer.currency)
    postings = move(amount_nanos, debit=unbilled, credit=revenue)
    if payer.disposition is Disposition.PREPAID:
        assert holdings is not None, f"{payer.wallet} was not locked"
        applied = Account(AccountKind.WALLET_APPLIED, payer.org, payer.currency)
        postings += (
            *charge(holdings, amount_nanos, project=payer.project),
            Posting(applied, -amount_nanos),
        )
    return Transaction(
        key=f"usage:{batch}:{payer.period:%Y-%m}:{payer.project}:{payer.wallet}:{payer.disposition}",
        kind=TransactionKind.USAGE,
        currency=payer.currency,
        occurred_at=occurred_at,
        postings=postings,
        memo={"batch": str(batch), "period": f"{payer.period:%Y-%m}", "project": payer.project},
    )
