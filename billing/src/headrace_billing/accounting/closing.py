"""Closing a month: reconciled for every customer, balanced, and then never written to again.

The database refuses whatever would be posted into it; what comes late counts in the open month and names this one.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.accounting import store
from headrace_billing.accounting.month import BooksBroken, MonthNotReconciled, begins, ends, may_close
from headrace_billing.accounting.store import ClosedMonth
from headrace_billing.charges.recognising import recognise
from headrace_billing.database import Database
from headrace_billing.invoicing.settlement import Consent
from headrace_billing.ledger.store import projections_off
from headrace_billing.money import major
from headrace_billing.reconciliation.many import plainly_green, suspects
from headrace_billing.reconciliation.reconciling import reconcile
from headrace_billing.reconciliation.report import Report, Scope
from headrace_billing.reconciliation.request import Graces
from headrace_billing.reconciliation.stage import SETTLED

CUSTOMERS_NAMED_MAX = 20
CUSTOMERS_AT_ONCE = 500


async def close_month(
    session: AsyncSession, database: Database, month: date, consent: Consent, *, now: datetime
) -> ClosedMonth:
    """Raises `NeedsTwo`, `MonthNotOver`, `MonthOutOfOrder`, `MonthNotReconciled`, `BooksBroken`."""
    second = consent.second()
    last = await store.last_closed(session)
    unfinished = await store.unfinished_drafts(session, until=ends(month))
    may_close(month, last=last, now=now, unfinished=unfinished)
    await recognise(session, through=month)
    # From a snapshot, before anybody has to wait: what is posted meanwhile is reconciled by the next month.
    async with database.snapshot() as seen:
        await _must_be_reconciled(seen, month, now=now)
        if off := await projections_off(seen):
            raise BooksBroken(off)
    await store.wait_for_postings(session)
    closed = ClosedMonth(
        month=month,
        closed_at=now,
        requested_by=consent.requested_by,
        approved_by=second,
        trial_balance=balance_document(await store.balances_before(session, ends(month))),
    )
    await store.add(session, closed)
    return closed


async def _must_be_reconciled(session: AsyncSession, month: date, *, now: datetime) -> None:
    """All together, and each customer for itself: two could hide each other. Only the odd get a report of their own."""
    report = await _report(session, None, month, now=now)
    red: list[dict[str, Any]] = []
    for organization in await _odd(session, month):
        one = await _report(session, organization, month, now=now)
        if one.status not in SETTLED:
            document = one.document()
            reasons = document["reasons"]
            red.append({"organization": organization, "status": one.status, "reasons": reasons})
        if len(red) == CUSTOMERS_NAMED_MAX:
            break
    if red or report.status not in SETTLED:
        raise MonthNotReconciled(red, report.document()["reasons"])


async def _odd(session: AsyncSession, month: date) -> list[str]:
    start, end = begins(month), ends(month)
    every = await store.active_organizations(session, start=start, end=end)
    seen = await suspects(session, start=start, end=end)
    odd: list[str] = []
    for first in range(0, len(every), CUSTOMERS_AT_ONCE):
        some = every[first : first + CUSTOMERS_AT_ONCE]
        green = await plainly_green(session, [Scope(one, start, end) for one in some], seen)
        odd += [one for one in some if one not in green]
    return odd


async def _report(session: AsyncSession, organization: str | None, month: date, *, now: datetime) -> Report:
    return await reconcile(session, Scope(organization, begins(month), ends(month)), now=now, graces=Graces())


class CurrencySum(TypedDict):
    currency: str
    sum: str


class AccountBalance(TypedDict):
    currency: str
    kind: str
    balance: str


class BalanceDocument(TypedDict):
    currencies: list[CurrencySum]
    accounts: list[AccountBalance]


def balance_document(rows: Iterable[Row[Any]]) -> BalanceDocument:
    """Debits are positive; each currency's sum is zero."""
    sums: dict[str, int] = {}
    accounts: list[AccountBalance] = []
    for row in rows:
        sums[row.currency] = sums.get(row.currency, 0) + int(row.nanos)
        accounts.append({"currency": row.currency, "kind": row.kind, "balance": major(int(row.nanos))})
    return {
        "currencies": [{"currency": currency, "sum": major(nanos)} for currency, nanos in sums.items()],
        "accounts": accounts,
    }
