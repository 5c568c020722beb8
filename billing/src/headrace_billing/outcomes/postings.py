"""What an outcome moves in the ledger: its price is set aside, then earned, or goes back to where it came from."""

from collections.abc import Sequence
from datetime import datetime

from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
    reversal,
)


def reservation_key(task: str) -> str:
    return f"outcome-reserved:{task}"


def reserve(
    *, task: str, org: str, currency: str, price_nanos: int, taken: Sequence[Posting], at: datetime
) -> Transaction:
    """`taken` are the debits to the wallet's lots; the price stands apart from the balance from now on."""
    return Transaction(
        key=reservation_key(task),
        kind=TransactionKind.OUTCOME_RESERVED,
        currency=currency,
        occurred_at=at,
        postings=(*taken, Posting(Account(AccountKind.OUTCOME_RESERVED, org, currency), -price_nanos)),
        memo={"task": task},
    )


def release(reservation: Transaction, *, task: str, at: datetime) -> Transaction:
    """Back into the very lots, even into one that has expired since: expiry is the ledger's to post."""
    return reversal(
        reservation, key=f"outcome-released:{task}", occurred_at=at, kind=TransactionKind.OUTCOME_RELEASED
    )


def accept(
    *, outcome: str, task: str, org: str, currency: str, price_nanos: int, prepaid: bool, at: datetime
) -> Transaction:
    """The price is earned; where it was reserved, the reservation has paid for it."""
    unbilled = Account(AccountKind.UNBILLED, org, currency)
    postings = move(price_nanos, debit=unbilled, credit=business(AccountKind.REVENUE_OUTCOMES, currency))
    if prepaid:
        postings += move(
            price_nanos,
            debit=Account(AccountKind.OUTCOME_RESERVED, org, currency),
            credit=Account(AccountKind.WALLET_APPLIED, org, currency),
        )
    return Transaction(
        key=f"outcome-accepted:{outcome}",
        kind=TransactionKind.OUTCOME_ACCEPTED,
        currency=currency,
        occurred_at=at,
        postings=postings,
        memo={"outcome": outcome, "task": task},
    )
