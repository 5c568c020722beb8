"""Refunding what is left of a grant: the customer's own money, and never what running requests may still need."""

from datetime import datetime

from headrace_billing.errors import BillingError
from headrace_billing.ledger.grant import GrantSource
from headrace_billing.ledger.lots import Holdings, Lot
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)
from headrace_billing.money import NANOS_PER_MICRO, major


class CreditNotRefundable(BillingError):
    """A gift, or used up, or expired, or held by what runs."""

    code = "credit_not_refundable"


def refundable_nanos(lot: Lot, holdings: Holdings, *, held_micros: int, now: datetime) -> int:
    """What of the lot may be paid back. Raises `CreditNotRefundable`.

    `held_micros` is what gateways hold and what billing has not posted yet: all of it may have to come from this lot.
    """
    if lot.kind is not AccountKind.WALLET_PAID:
        raise CreditNotRefundable(f"{lot.id} is promotional credit, which nobody paid for.")
    if lot.expires_at is not None and lot.expires_at <= now:
        raise CreditNotRefundable(f"{lot.id} has expired.")
    free = min(lot.remaining_nanos, holdings.balance_nanos - held_micros * NANOS_PER_MICRO)
    if free <= 0:
        raise CreditNotRefundable(
            f"{lot.id} has {major(lot.remaining_nanos)} left, and running requests or an overdraft need it."
        )
    return free


def refund_transaction(
    lot: Lot, amount_nanos: int, *, refund: str, org: str, source: GrantSource, at: datetime
) -> Transaction:
    """Money that had arrived is owed to the customer from now on; credit given by hand goes back where it came from."""
    owed = Account(AccountKind.REFUND_LIABILITY, org, lot.currency)
    goes_to = owed if source is GrantSource.CASH else business(AccountKind.MANUAL_GRANTS, lot.currency)
    return Transaction(
        key=f"refund:{refund}",
        kind=TransactionKind.CREDIT_REFUNDED,
        currency=lot.currency,
        occurred_at=at,
        postings=(Posting(lot.account, amount_nanos, lot.id), Posting(goes_to, -amount_nanos)),
        memo={"refund": refund, "lot": lot.id},
    )
