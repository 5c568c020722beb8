"""Revenue by month: what was recognised, what is deferred, and what became of credit that was sold.

Paid credit is deferred when it is sold, and recognised as it burns; what expires is breakage. So of each month
opening + sold + returned - burnt - expired - refunded = closing, and over all months sold = recognised + deferred +
refunded. Usage that is paid afterwards is recognised when it is used, and unbilled until an invoice takes it. What is
charged for a time stands in `deferred` until its seconds have passed, and what a contract has committed in `commitment`
until it is used or broken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from headrace_billing.ledger.transaction import AccountKind, TransactionKind


class Deferral(StrEnum):
    """Why paid credit moved."""

    SOLD = "sold"
    BURNT = "burnt"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    RETURNED = "returned"  # by credit notes


DEFERRALS: Mapping[TransactionKind, Deferral] = {
    TransactionKind.CREDIT_GRANTED: Deferral.SOLD,
    TransactionKind.OVERDRAFT_REPAID: Deferral.BURNT,
    TransactionKind.USAGE: Deferral.BURNT,
    TransactionKind.OUTCOME_RESERVED: Deferral.BURNT,
    TransactionKind.OUTCOME_RELEASED: Deferral.BURNT,
    TransactionKind.CREDIT_EXPIRED: Deferral.EXPIRED,
    TransactionKind.CREDIT_REFUNDED: Deferral.REFUNDED,
    TransactionKind.CREDIT_NOTE: Deferral.RETURNED,
}

RECOGNISED = (
    AccountKind.REVENUE_TOKENS,
    AccountKind.REVENUE_OUTCOMES,
    AccountKind.REVENUE_SUBSCRIPTIONS,
    AccountKind.REVENUE_COMMITMENTS,
    AccountKind.REVENUE_GPU_TIME,
    AccountKind.SERVICE_CREDITS,
    AccountKind.BREAKAGE,
    AccountKind.PROMO_CONTRA,
    AccountKind.ROUNDING,
)
BALANCES = (
    AccountKind.WALLET_PAID,
    AccountKind.COMMITMENT,
    AccountKind.OUTCOME_RESERVED,
    AccountKind.DEFERRED,
    AccountKind.UNBILLED,
    AccountKind.RECEIVABLE,
    AccountKind.REFUND_LIABILITY,
    AccountKind.TAX_PAYABLE,
)


@dataclass(frozen=True, slots=True)
class Movement:
    """Postings of a month to accounts of one kind, by why; debit positive."""

    month: date
    currency: str
    account: AccountKind
    kind: TransactionKind
    nanos: int


@dataclass(slots=True)
class Month:
    month: date
    currency: str
    opening: dict[AccountKind, int]
    """Balances as finance reads them: what is owed to or by the seller is positive."""
    deferral: dict[Deferral, int] = field(default_factory=lambda: dict.fromkeys(Deferral, 0))
    recognised: dict[AccountKind, int] = field(default_factory=lambda: dict.fromkeys(RECOGNISED, 0))
    closing: dict[AccountKind, int] = field(default_factory=dict)

    @property
    def deferred_nanos(self) -> int:
        """What the deferral adds up to; `closing` is what the accounts say."""
        moved = self.deferral
        return (
            self.opening[AccountKind.WALLET_PAID]
            + moved[Deferral.SOLD]
            + moved[Deferral.RETURNED]
            - moved[Deferral.BURNT]
            - moved[Deferral.EXPIRED]
            - moved[Deferral.REFUNDED]
        )


ASSETS = frozenset({AccountKind.UNBILLED, AccountKind.RECEIVABLE})
GAINS = frozenset({Deferral.SOLD, Deferral.RETURNED})


def schedule(movements: Iterable[Movement], *, months: Iterable[date]) -> list[Month]:
    """One row a currency and month that is asked for; `movements` are all from the beginning, in order of month."""
    wanted = sorted(months)
    by_currency: dict[str, list[Movement]] = {}
    for movement in movements:
        by_currency.setdefault(movement.currency, []).append(movement)
    return [
        row
        for currency in sorted(by_currency)
        for row in _of_currency(currency, by_currency[currency], wanted)
    ]


def _of_currency(currency: str, movements: list[Movement], wanted: list[date]) -> Iterable[Month]:
    standing = dict.fromkeys(BALANCES, 0)
    left = iter(sorted(movements, key=lambda one: one.month))
    movement = next(left, None)
    for month in wanted:
        while movement is not None and movement.month < month:
            _stand(standing, movement)
            movement = next(left, None)
        row = Month(month, currency, dict(standing))
        while movement is not None and movement.month == month:
            _stand(standing, movement)
            _tell(row, movement)
            movement = next(left, None)
        row.closing = dict(standing)
        assert row.closing[AccountKind.WALLET_PAID] == row.deferred_nanos, (
            f"{month} {currency}: deferral is off"
        )
        yield row


def _stand(standing: dict[AccountKind, int], movement: Movement) -> None:
    if movement.account in standing:
        standing[movement.account] += movement.nanos if movement.account in ASSETS else -movement.nanos


def _tell(row: Month, movement: Movement) -> None:
    if movement.account in row.recognised:
        row.recognised[movement.account] -= movement.nanos
    if movement.account is AccountKind.WALLET_PAID:
        why = DEFERRALS[movement.kind]
        row.deferral[why] += -movement.nanos if why in GAINS else movement.nanos
