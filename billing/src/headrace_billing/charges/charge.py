"""A charge: what a customer owes for a time, rather than for tokens or outcomes; below zero it is a credit.

Any room may put one into the books. It is unbilled from then on, and the next invoice whose period it happened in
takes it, as one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from headrace_billing.invoicing.usage import Span
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Transaction,
    TransactionKind,
    business,
    move,
)


class ChargeKind(StrEnum):
    PLAN = "plan"
    SEAT = "seat"
    ADD_ON = "add_on"
    FEE = "fee"
    COMMITMENT = "commitment"
    OVERAGE = "overage"
    TRUE_UP = "true_up"
    MINIMUM = "minimum"
    GPU_TIME = "gpu_time"
    SERVICE_CREDIT = "service_credit"


class Recognition(StrEnum):
    """When the amount is revenue."""

    AT_ONCE = "at_once"
    OVER_TIME = "over_time"  # by the seconds of its span, month by month
    ELSEWHERE = "elsewhere"  # the room that charges moves it out of `deferred` itself


REVENUE: Mapping[ChargeKind, AccountKind] = {
    ChargeKind.PLAN: AccountKind.REVENUE_SUBSCRIPTIONS,
    ChargeKind.SEAT: AccountKind.REVENUE_SUBSCRIPTIONS,
    ChargeKind.ADD_ON: AccountKind.REVENUE_SUBSCRIPTIONS,
    ChargeKind.FEE: AccountKind.REVENUE_SUBSCRIPTIONS,
    ChargeKind.COMMITMENT: AccountKind.REVENUE_COMMITMENTS,
    ChargeKind.OVERAGE: AccountKind.REVENUE_COMMITMENTS,
    ChargeKind.TRUE_UP: AccountKind.REVENUE_COMMITMENTS,
    ChargeKind.MINIMUM: AccountKind.REVENUE_COMMITMENTS,
    ChargeKind.GPU_TIME: AccountKind.REVENUE_GPU_TIME,
    ChargeKind.SERVICE_CREDIT: AccountKind.SERVICE_CREDITS,
}


def account_of(kind: ChargeKind, recognition: Recognition) -> AccountKind:
    """Where the seller's side of a charge stands first."""
    return REVENUE[kind] if recognition is Recognition.AT_ONCE else AccountKind.DEFERRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    id: str
    reference: str
    """What it is for. One reference is charged once, whoever asks again."""
    organization: str
    currency: str
    kind: ChargeKind
    recognition: Recognition
    label: str
    """As the invoice has it."""
    quantity: int
    unit: str
    amount_nanos: int
    """Exact; the invoice line rounds it. Below zero it is a credit."""
    span: Span
    """The service's time, which revenue is recognised over."""
    happened_at: datetime
    project: str | None = None
    unit_price: Decimal | None = None
    """In major units for `per` units; null where quantity times price is not the amount."""
    per: int = 1

    def __post_init__(self) -> None:
        assert self.amount_nanos, f"{self.reference}: a charge of nothing"

    @property
    def account(self) -> AccountKind:
        return account_of(self.kind, self.recognition)


def post(charge: Charge) -> Transaction:
    return Transaction(
        key=f"charge:{charge.reference}",
        kind=TransactionKind.CHARGE,
        currency=charge.currency,
        occurred_at=charge.happened_at,
        postings=move(
            charge.amount_nanos,
            debit=Account(AccountKind.UNBILLED, charge.organization, charge.currency),
            credit=business(charge.account, charge.currency),
        ),
        memo={"reference": charge.reference},
    )
