"""A sign-up: a subscription that begins once its first period is paid, on Stripe's page.

    open → paid → settled        (→ settled at once, where there was nothing to pay)
    open → refused | expired | quarantined

Until it is paid nothing of it is in the books and no plan is in force. From then on the subscription runs, and the
money is owed to the customer until the invoice of its first period takes it. `refused`: the money came, and meanwhile
the plan could not be subscribed to any more; it stays owed to the customer.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.invoicing.settlement import Split, Standing, taken_up
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
)


class SignUpState(StrEnum):
    OPEN = "open"
    PAID = "paid"
    SETTLED = "settled"
    REFUSED = "refused"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUp:
    id: str
    org: str
    currency: str
    wish: dict[str, Any]
    """What is to be subscribed to, as it was asked for."""
    amount_minor: int
    """Of the first period, with its tax; nothing for a trial, whose sign-up only keeps a card."""
    tax_minor: int
    state: SignUpState
    reason: str | None = None
    subscription: str | None = None
    invoice: str | None = None
    created_at: datetime

    @property
    def owed_back(self) -> Account:
        return Account(AccountKind.REFUND_LIABILITY, self.org, self.currency)

    def paid_transaction(self, *, payment: str, at: datetime) -> Transaction:
        """The money is here, and for no invoice yet."""
        return Transaction(
            key=f"payment:{payment}",
            kind=TransactionKind.PAYMENT,
            currency=self.currency,
            occurred_at=at,
            postings=move(
                self.amount_minor * nanos_per_minor(self.currency),
                debit=business(AccountKind.CASH_CLEARING, self.currency),
                credit=self.owed_back,
            ),
            memo={"sign_up": self.id, "payment": payment},
        )

    def settled_transaction(self, standing: Standing, parts: Split, *, at: datetime) -> Transaction | None:
        """From what is owed to the customer to what the customer owes; null where nothing is open."""
        amounts = taken_up(standing, parts)
        amounts[self.owed_back] = amounts.get(self.owed_back, 0) + self.amount_minor
        unit = nanos_per_minor(self.currency)
        postings = tuple(Posting(account, minor * unit) for account, minor in amounts.items() if minor)
        if not postings:
            return None
        return Transaction(
            key=f"sign-up:{self.id}",
            kind=TransactionKind.PAYMENT,
            currency=self.currency,
            occurred_at=at,
            postings=postings,
            memo={"sign_up": self.id, "invoice": standing.invoice, "number": standing.number},
        )
