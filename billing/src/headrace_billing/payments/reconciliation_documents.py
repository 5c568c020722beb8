"""How payments stand against Stripe, as the API shows it."""

from typing_extensions import TypedDict


class CashCheckDocument(TypedDict):
    """In nano-units."""

    name: str
    currency: str
    left: str
    right: str
    holds: bool


class DifferenceDocument(TypedDict):
    balance_transaction: str
    reason: str
    payment: str | None
    organization: str | None
    amount: str
    currency: str
    booked_at: str
    found_at: str


class OtherDocument(TypedDict):
    """What Stripe booked that is no payment, such as payouts: the sum of its kind."""

    kind: str
    amount: str
    currency: str


class PaymentsReportDocument(TypedDict):
    as_of: str
    since: str
    status: str
    matched: int
    pending: int
    returned: int
    others: list[OtherDocument]
    checks: list[CashCheckDocument]
    differences: list[DifferenceDocument]
