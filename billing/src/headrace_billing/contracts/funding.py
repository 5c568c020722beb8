"""What a prepaid commitment posts: opened against what its invoice defers, drawn as usage, and in the end rolled or broken.

What is drawn is posted by ingest like any credit (`ingest.postings`).
"""

from collections.abc import Sequence
from datetime import datetime

from headrace_billing.ledger.lots import Holdings, Lot
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
)


def opened(*, lot: str, contract: str, nanos: int, holdings: Holdings, at: datetime) -> list[Transaction]:
    """The period's lot and, where the one before was overdrawn, the repayment out of it."""
    account = Account(AccountKind.COMMITMENT, holdings.wallet, holdings.currency)
    transactions = [
        Transaction(
            key=f"commitment:{lot}",
            kind=TransactionKind.COMMITMENT_OPENED,
            currency=holdings.currency,
            occurred_at=at,
            postings=(
                Posting(business(AccountKind.DEFERRED, holdings.currency), nanos),
                Posting(account, -nanos, lot),
            ),
            memo={"contract": contract, "lot": lot},
        )
    ]
    repaid = min(nanos, max(holdings.overdraft_nanos, 0))
    if repaid:
        transactions.append(
            Transaction(
                key=f"commitment:{lot}:overdraft",
                kind=TransactionKind.OVERDRAFT_REPAID,
                currency=holdings.currency,
                occurred_at=at,
                postings=(
                    Posting(account, repaid, lot),
                    Posting(holdings.overdraft_account, -repaid),
                ),
                memo={"contract": contract, "lot": lot},
            )
        )
    return transactions


def rolled(lot: Lot, *, into: str, nanos: int, contract: str, at: datetime) -> Transaction:
    return Transaction(
        key=f"commitment-rolled:{into}",
        kind=TransactionKind.COMMITMENT_ROLLED,
        currency=lot.currency,
        occurred_at=at,
        postings=(Posting(lot.account, nanos, lot.id), Posting(lot.account, -nanos, into)),
        memo={"contract": contract, "from": lot.id, "lot": into},
    )


def broken(lot: Lot, *, nanos: int, contract: str, at: datetime) -> Transaction:
    """A correction may fill a lot once more: then it is broken once more."""
    return Transaction(
        key=f"commitment-broken:{lot.id}:{lot.last_burnt}:{lot.remaining_nanos}",
        kind=TransactionKind.COMMITMENT_BROKEN,
        currency=lot.currency,
        occurred_at=at,
        postings=(
            Posting(lot.account, nanos, lot.id),
            Posting(business(AccountKind.BREAKAGE, lot.currency), -nanos),
        ),
        memo={"contract": contract, "lot": lot.id},
    )


def repaid(
    lots: Sequence[Lot], *, contract: str, nanos: int, holdings: Holdings, at: datetime
) -> list[Transaction]:
    """Lots that corrections have filled again pay for usage beyond, also for what was charged of it already."""
    transactions, left = [], nanos
    for lot in lots:
        part = min(left, lot.remaining_nanos)
        if part > 0:
            transactions.append(
                Transaction(
                    key=f"commitment-repaid:{lot.id}:{lot.last_burnt}:{lot.remaining_nanos}",
                    kind=TransactionKind.OVERDRAFT_REPAID,
                    currency=lot.currency,
                    occurred_at=at,
                    postings=(
                        Posting(lot.account, part, lot.id),
                        Posting(holdings.overdraft_account, -part),
                    ),
                    memo={"contract": contract, "lot": lot.id},
                )
            )
            left -= part
    return transactions


def overdrawn(charge: str, *, nanos: int, contract: str, holdings: Holdings, at: datetime) -> Transaction:
    """What was used beyond a contract that has ended is on the charge from now on; below zero it was too much."""
    return Transaction(
        key=f"commitment-overdrawn:{charge}",
        kind=TransactionKind.COMMITMENT_OVERDRAWN,
        currency=holdings.currency,
        occurred_at=at,
        postings=move(
            nanos,
            debit=business(AccountKind.DEFERRED, holdings.currency),
            credit=holdings.overdraft_account,
        ),
        memo={"contract": contract, "charge": charge},
    )


def ended_lots(lots: Sequence[Lot], *, by: datetime) -> list[Lot]:
    """With something left, and past their time; in the order in which they burn."""
    found = [
        lot for lot in lots if lot.remaining_nanos and lot.expires_at is not None and lot.expires_at <= by
    ]
    return sorted(found, key=lambda lot: (lot.priority, lot.expires_at, lot.id))
