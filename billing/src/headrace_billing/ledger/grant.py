"""Credit grants: where the credit comes from, and what it first has to repay."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_billing.ledger.lots import PRIORITY_DEFAULT, Holdings
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)
from headrace_billing.money import MICROS_MAX, NANOS_PER_MICRO


class GrantKind(StrEnum):
    PAID = "paid"  # the customer's money: what is left of it can be refunded
    PROMO = "promo"  # a gift: it costs the seller revenue, and is never refunded


class GrantSource(StrEnum):
    CASH = "cash"  # money that arrived and can be found on a bank statement
    MANUAL = "manual"  # given by hand, to be cleared against something later


class BalanceTooLarge(BillingError):
    """The wallet would hold more than admission can count exactly."""

    code = "balance_too_large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    id: str
    """The lot's id too."""
    wallet: str
    currency: str
    amount_nanos: int
    kind: GrantKind
    source: GrantSource
    reason: str
    at: datetime
    expires_at: datetime | None = None
    scope: str | None = None
    """The one project that may burn it."""
    scope_model: str | None = None
    """The one model whose usage may burn it."""
    priority: int = PRIORITY_DEFAULT

    @property
    def account(self) -> Account:
        kind = AccountKind.WALLET_PAID if self.kind is GrantKind.PAID else AccountKind.WALLET_PROMO
        return Account(kind, self.wallet, self.currency)

    @property
    def is_scoped(self) -> bool:
        return self.scope is not None or self.scope_model is not None

    @property
    def funded_by(self) -> Account:
        if self.kind is GrantKind.PROMO:
            return business(AccountKind.PROMO_CONTRA, self.currency)
        if self.source is GrantSource.CASH:
            return business(AccountKind.CASH_CLEARING, self.currency)
        return business(AccountKind.MANUAL_GRANTS, self.currency)


def grant_transactions(grant: Grant, holdings: Holdings) -> list[Transaction]:
    """The grant itself and, where the wallet is overdrawn, the repayment out of it. Raises `BalanceTooLarge`."""
    if (holdings.balance_nanos + grant.amount_nanos) // NANOS_PER_MICRO >= MICROS_MAX:
        raise BalanceTooLarge(f"{grant.wallet} would hold more than admission can count exactly.")
    transactions = [
        Transaction(
            key=f"grant:{grant.id}",
            kind=TransactionKind.CREDIT_GRANTED,
            currency=grant.currency,
            occurred_at=grant.at,
            postings=(
                Posting(grant.funded_by, grant.amount_nanos),
                Posting(grant.account, -grant.amount_nanos, grant.id),
            ),
            memo={"grant": grant.id, "reason": grant.reason, "source": grant.source},
        )
    ]
    # What made the overdraft is not known any more, so credit of a narrow scope must not repay it.
    repaid = 0 if grant.is_scoped else min(grant.amount_nanos, max(holdings.overdraft_nanos, 0))
    if repaid:
        transactions.append(
            Transaction(
                key=f"grant:{grant.id}:overdraft",
                kind=TransactionKind.OVERDRAFT_REPAID,
                currency=grant.currency,
                occurred_at=grant.at,
                postings=(
                    Posting(grant.account, repaid, grant.id),
                    Posting(holdings.overdraft_account, -repaid),
                ),
                memo={"grant": grant.id},
            )
        )
    return transactions
