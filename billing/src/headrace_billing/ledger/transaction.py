"""Double entry: what a transaction is. Debits are positive, credits negative, and each one adds up to zero.

Nothing here decides what is posted when; it says only what can be posted at all. The database enforces the same
rules once more, for whoever does not come through here.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

BUSINESS = "business"
"""Owner of every account that is the seller's own."""


class AccountKind(StrEnum):
    # A customer's. The owner is the organisation, or the wallet where it says so.
    RECEIVABLE = "receivable"
    WALLET_PAID = "wallet_paid"  # wallet; each posting names its credit lot
    WALLET_PROMO = "wallet_promo"  # wallet; each posting names its credit lot
    OVERDRAFT = "overdraft"  # wallet; usage that no lot could pay
    COMMITMENT = "commitment"  # wallet; each posting names its credit lot: what a contract has committed and paid ahead
    UNBILLED = "unbilled"
    OUTCOME_RESERVED = "outcome_reserved"
    WALLET_APPLIED = "wallet_applied"  # credit burnt for what no invoice shows yet
    REFUND_LIABILITY = "refund_liability"
    # The seller's own.
    CASH_CLEARING = "cash_clearing"
    PSP_FEES = "psp_fees"
    REVENUE_TOKENS = "revenue_tokens"
    REVENUE_OUTCOMES = "revenue_outcomes"
    REVENUE_SUBSCRIPTIONS = "revenue_subscriptions"
    REVENUE_COMMITMENTS = "revenue_commitments"
    REVENUE_GPU_TIME = "revenue_gpu_time"
    SERVICE_CREDITS = "service_credits"  # what missed promises take from revenue
    DEFERRED = "deferred"
    BREAKAGE = "breakage"
    PROMO_CONTRA = "promo_contra"
    TAX_PAYABLE = "tax_payable"
    BAD_DEBT = "bad_debt"
    ROUNDING = "rounding"
    FX = "fx"
    MANUAL_GRANTS = "manual_grants"


LOT_KINDS = frozenset({AccountKind.WALLET_PAID, AccountKind.WALLET_PROMO, AccountKind.COMMITMENT})
WALLET_KINDS = LOT_KINDS | {AccountKind.OVERDRAFT}
CUSTOMER_KINDS = WALLET_KINDS | {
    AccountKind.RECEIVABLE,
    AccountKind.UNBILLED,
    AccountKind.OUTCOME_RESERVED,
    AccountKind.WALLET_APPLIED,
    AccountKind.REFUND_LIABILITY,
}


class TransactionKind(StrEnum):
    """Why something was posted. The database counts what `USAGE` and `OVERDRAFT_REPAID` take from a lot."""

    CREDIT_GRANTED = "credit_granted"
    CREDIT_EXPIRED = "credit_expired"
    CREDIT_REFUNDED = "credit_refunded"
    OVERDRAFT_REPAID = "overdraft_repaid"
    USAGE = "usage"
    OUTCOME_RESERVED = "outcome_reserved"
    OUTCOME_RELEASED = "outcome_released"
    OUTCOME_ACCEPTED = "outcome_accepted"
    CHARGE = "charge"
    RECOGNISED = "recognised"
    INVOICE = "invoice"
    TAX_CONTAINED = "tax_contained"
    CREDIT_APPLIED = "credit_applied"
    REVERSAL = "reversal"
    PAYMENT = "payment"
    CREDIT_NOTE = "credit_note"
    WRITE_OFF = "write_off"
    REFUND_PAID = "refund_paid"
    REFUND_RETURNED = "refund_returned"
    DISPUTED = "disputed"
    PSP_FEE = "psp_fee"
    CASH_CONVERTED = "cash_converted"
    COMMITMENT_OPENED = "commitment_opened"
    COMMITMENT_ROLLED = "commitment_rolled"
    COMMITMENT_BROKEN = "commitment_broken"
    COMMITMENT_OVERDRAWN = "commitment_overdrawn"
    COMMITMENT_TAKEN_BACK = "commitment_taken_back"


@dataclass(frozen=True, slots=True, order=True)
class Account:
    kind: AccountKind
    owner: str
    currency: str

    def __post_init__(self) -> None:
        assert (self.owner == BUSINESS) == (self.kind not in CUSTOMER_KINDS), (
            f"{self.kind} can't belong to {self.owner!r}"
        )


def business(kind: AccountKind, currency: str) -> Account:
    return Account(kind, BUSINESS, currency)


@dataclass(frozen=True, slots=True)
class Posting:
    account: Account
    amount_nanos: int
    """Debit positive, credit negative."""
    lot: str | None = None

    def __post_init__(self) -> None:
        assert self.amount_nanos != 0, f"empty posting to {self.account}"
        assert (self.lot is not None) == (self.account.kind in LOT_KINDS), f"lot {self.lot} at {self.account}"

    def reversed(self) -> "Posting":
        return Posting(self.account, -self.amount_nanos, self.lot)


@dataclass(frozen=True, slots=True)
class Transaction:
    """`key` makes posting idempotent: once in the ledger, the same key can only mean the same content."""

    key: str
    kind: TransactionKind
    currency: str
    occurred_at: datetime
    postings: tuple[Posting, ...]
    memo: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.occurred_at.tzinfo is not None, f"{self.key}: a time without a zone"
        assert self.postings, f"{self.key}: nothing to post"
        assert all(p.account.currency == self.currency for p in self.postings), (
            f"{self.key}: mixed currencies"
        )
        total = sum(p.amount_nanos for p in self.postings)
        assert total == 0, f"{self.key}: postings add up to {total} nano-units, not to zero"

    @property
    def payload_hash(self) -> bytes:
        """Of everything but the key and the time: a retry is a moment later and still the same thing."""
        content = {
            "kind": self.kind,
            "currency": self.currency,
            "memo": dict(sorted(self.memo.items())),
            "postings": [
                [p.account.kind, p.account.owner, p.amount_nanos, p.lot]
                for p in sorted(self.postings, key=lambda p: (p.account, p.lot or "", p.amount_nanos))
            ],
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).digest()


def move(amount_nanos: int, *, debit: Account, credit: Account) -> tuple[Posting, ...]:
    """Both halves of a transfer; none for nothing, and a negative amount goes the other way."""
    if amount_nanos == 0:
        return ()
    return Posting(debit, amount_nanos), Posting(credit, -amount_nanos)


def reversal(
    original: Transaction,
    *,
    key: str,
    occurred_at: datetime,
    kind: TransactionKind = TransactionKind.REVERSAL,
) -> Transaction:
    """Undoes `original` to the very lots that it touched, whatever burn order would choose today."""
    return Transaction(
        key=key,
        kind=kind,
        currency=original.currency,
        occurred_at=occurred_at,
        postings=tuple(posting.reversed() for posting in original.postings),
        memo={**original.memo, "reverses": original.key},
    )


def net(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """One posting an account and lot, leaving out those that cancel."""
    sums: dict[tuple[Account, str | None], int] = {}
    for posting in postings:
        place = (posting.account, posting.lot)
        sums[place] = sums.get(place, 0) + posting.amount_nanos
    return tuple(Posting(account, amount, lot) for (account, lot), amount in sums.items() if amount)
