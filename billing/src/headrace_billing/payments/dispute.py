"""A dispute: a cardholder who goes to the bank, which takes the money back until it is decided whose it is.

    heard → open → taken → restored | lost
    heard → open → closed              (an inquiry: no money ever moved)
    heard → foreign                    (of a payment that is not ours)

The credit follows the money, not the quarrel: it leaves when Stripe's books say that the money left, and comes back
when they say that it came back.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger.lots import Holdings
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)
from headrace_billing.payments.money_seen import DisputeSeen, Settlement
from headrace_billing.payments.top_up import TopUp


class DisputeState(StrEnum):
    HEARD = "heard"
    OPEN = "open"
    TAKEN = "taken"
    RESTORED = "restored"
    LOST = "lost"
    CLOSED = "closed"
    FOREIGN = "foreign"


# Stripe's words for what is decided (https://docs.stripe.com/api/disputes/object).
LOST = frozenset({"lost"})
CLOSED = frozenset({"warning_closed", "prevented"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    id: str
    """Stripe's."""
    state: DisputeState
    top_up: str | None
    org: str | None
    amount_minor: int | None
    currency: str | None
    reason: str | None
    """The cardholder's, in Stripe's words."""
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """What Stripe's books say of a dispute's money: each at most once."""

    taken: Settlement | None
    restored: Settlement | None


def moved(seen: DisputeSeen) -> Moved:
    taken = next((each for each in seen.settlements if each.amount_minor < 0), None)
    restored = next((each for each in seen.settlements if each.amount_minor > 0), None)
    return Moved(taken, restored)


def state_of(seen: DisputeSeen) -> DisputeState:
    money = moved(seen)
    if money.taken is not None and money.restored is not None:
        return DisputeState.RESTORED
    if money.taken is not None:
        return DisputeState.LOST if seen.status in LOST else DisputeState.TAKEN
    return DisputeState.CLOSED if seen.status in CLOSED else DisputeState.OPEN


def taken_transaction(
    top_up: TopUp,
    holdings: Holdings | None,
    *,
    dispute: str,
    amount_minor: int,
    again_minor: int = 0,
    at: datetime,
) -> Transaction:
    """As if the disputed money had never come.

    No holdings: it paid an invoice, of which `again_minor` is due again; the rest had been owed to the customer.
    """
    nanos = amount_minor * nanos_per_minor(top_up.currency)
    cash = Posting(business(AccountKind.CASH_CLEARING, top_up.currency), -nanos)
    if holdings is None:
        again = again_minor * nanos_per_minor(top_up.currency)
        parts = {AccountKind.RECEIVABLE: again, AccountKind.REFUND_LIABILITY: nanos - again}
        owed = [
            Posting(Account(kind, top_up.org, top_up.currency), part) for kind, part in parts.items() if part
        ]
    else:
        owed = _taken_back(top_up, holdings, nanos)
    return Transaction(
        key=taken_key(dispute),
        kind=TransactionKind.DISPUTED,
        currency=top_up.currency,
        occurred_at=at,
        postings=(cash, *owed),
        memo={"dispute": dispute, "top_up": top_up.id},
    )


def _taken_back(top_up: TopUp, holdings: Holdings, nanos: int) -> list[Posting]:
    """What is left of its lot goes, what was spent is overdraft."""
    lot = next((lot for lot in holdings.lots if lot.id == top_up.lot), None)
    left = 0 if lot is None else min(lot.remaining_nanos, nanos)
    postings = []
    if lot is not None and left:
        postings.append(Posting(lot.account, left, lot.id))
    if nanos > left:
        postings.append(Posting(holdings.overdraft_account, nanos - left))
    return postings


def taken_key(dispute: str) -> str:
    return f"dispute:{dispute}:taken"
