"""A month of the books: when it may be closed. Closed once, it is never opened again.

The books are one set for all sellers of the deployment, so a month is closed for all of them together.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from headrace_billing.errors import BillingError
from headrace_billing.reconciliation.documents import ReasonDocument


class MonthNotOver(BillingError):
    """It still goes on, or its invoices still wait for late events."""

    code = "month_not_over"


class MonthOutOfOrder(BillingError):
    """Months are closed one after the other, each once."""

    code = "month_out_of_order"


class MonthNotReconciled(BillingError):
    """Customers whose requests or books do not add up; the members name them."""

    code = "month_not_reconciled"

    def __init__(self, customers: Sequence[dict[str, Any]], reasons: Sequence[ReasonDocument]) -> None:
        super().__init__(
            "The month stays open until it is reconciled: see `customers` and GET /v1/reconciliation."
        )
        self.members: dict[str, Any] = {"customers": list(customers), "reasons": list(reasons)}


class BooksBroken(BillingError):
    """The ledger does not add up, or a projection is not what its postings say."""

    code = "books_broken"

    def __init__(self, off: Sequence[str]) -> None:
        super().__init__("The ledger and what is projected from it differ; `off` names where.")
        self.members: dict[str, Any] = {"off": list(off)}


def begins(month: date) -> datetime:
    return datetime.combine(month, time(), UTC)


def next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def ends(month: date) -> datetime:
    """Exclusive."""
    return begins(next_month(month))


def may_close(month: date, *, last: date | None, now: datetime, unfinished: int) -> None:
    """Raises `MonthNotOver`, `MonthOutOfOrder`. `unfinished` counts drafts of invoices up to its end."""
    if now < ends(month):
        raise MonthNotOver(f"{month:%Y-%m} ends at {ends(month).isoformat()}.")
    if last is not None and month <= last:
        raise MonthOutOfOrder(f"{month:%Y-%m} is closed: what comes late is posted into the open month.")
    if last is not None and month != next_month(last):
        raise MonthOutOfOrder(f"After {last:%Y-%m}, {next_month(last):%Y-%m} is to be closed.")
    if unfinished:
        raise MonthNotOver(
            f"{unfinished} drafts of invoices up to the end of {month:%Y-%m} are not final yet."
        )
