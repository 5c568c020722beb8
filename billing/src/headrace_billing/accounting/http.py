"""The seller's routes for finance: closing a month, the trial balance at any time, and revenue by month."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime
from typing_extensions import TypedDict

from headrace_billing.accounting import revenue_store, store
from headrace_billing.accounting.closing import BalanceDocument, balance_document, close_month
from headrace_billing.accounting.month import ends, next_month
from headrace_billing.accounting.revenue import BALANCES, RECOGNISED, Deferral, Month, schedule
from headrace_billing.accounting.store import ClosedMonth
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Currency, Name
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.errors import InvalidRequest
from headrace_billing.idempotency import recall, remember
from headrace_billing.intervals import utc
from headrace_billing.invoicing.settlement import Consent
from headrace_billing.ledger.store import projections_off
from headrace_billing.ledger.transaction import AccountKind
from headrace_billing.money import major
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["ledger"], dependencies=[AdminOnly], route_class=Answering)

MONTHS_MAX = 120
MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"

MonthPath = Annotated[str, Path(pattern=MONTH)]
MonthQuery = Annotated[str, Query(pattern=MONTH)]


class TrialBalanceDocument(BalanceDocument):
    as_of: str
    projections_off: Sequence[Any] | None


class ClosedMonthDocument(TypedDict):
    month: str
    closed_at: str
    requested_by: str
    approved_by: str
    trial_balance: Mapping[str, Any]


class MonthDocument(TypedDict):
    month: str
    currency: str
    closed: bool
    recognised: Mapping[str, str]
    deferred: Mapping[str, str]
    balances: Mapping[str, Mapping[str, str]]


class ScheduleDocument(TypedDict):
    items: list[MonthDocument]


class MonthToClose(Body):
    requested_by: Name
    approved_by: Name
    """Another person than the one who asked."""


@router.get("/v1/ledger/trial-balance")
async def show_trial_balance(parts: PartsOf, at: AwareDatetime | None = None) -> TrialBalanceDocument:
    """Summed from the postings that count before `at`, or from all. Debits are positive; each sum is zero.

    Without `at` it is compared with the balances that everything else goes by: `projections_off` names what differs.
    """
    async with parts.database.snapshot() as session:
        if at is None:
            rows = await store.balances_before(session, datetime.max.replace(tzinfo=UTC))
            off = await projections_off(session)
        else:
            rows, off = await store.balances_before(session, utc(at)), None
    return {
        "as_of": utc(at or parts.now()).isoformat(),
        **balance_document(rows),
        "projections_off": off,
    }


@router.post("/v1/accounting-months/{month}/close", status_code=201)
async def close_accounting_month(
    month: MonthPath, body: MonthToClose, parts: PartsOf, idempotency_key: IdempotencyKey
) -> ClosedMonthDocument:
    """For good, and for all sellers. Refused while a customer is not reconciled or an invoice of it is a draft."""
    once = {"scope": f"accounting-months {month}", "key": idempotency_key}
    consent = Consent(requested_by=body.requested_by, approved_by=body.approved_by)
    async with parts.database.begin() as session:
        known: ClosedMonthDocument | None = await recall(
            session, **once, request=body.model_dump(mode="json")
        )
        if known is not None:
            return known
        closed = await close_month(session, parts.database, _first(month), consent, now=parts.now())
        answer = _document(closed)
        await remember(session, **once, answer=answer)
    return answer


@router.get("/v1/accounting-months/{month}")
async def show_month(month: MonthPath, parts: PartsOf) -> ClosedMonthDocument:
    """Who closed it, and the trial balance at its end."""
    async with parts.database.begin() as session:
        return _document(await store.closed_month(session, _first(month)))


@router.get("/v1/revenue/schedule")
async def show_schedule(
    parts: PartsOf, start: MonthQuery, end: MonthQuery, currency: Currency | None = None
) -> ScheduleDocument:
    """Months from `start` to `end`, both included: what was recognised, and what became of credit that was sold."""
    months = _months(_first(start), _first(end))
    async with parts.database.snapshot() as session:
        found = await revenue_store.movements(session, before=ends(months[-1]), currency=currency)
        last = await store.last_closed(session)
    rows = schedule(found, months=months)
    return {"items": [_row(row, closed=last is not None and row.month <= last) for row in rows]}


def _row(row: Month, *, closed: bool) -> MonthDocument:
    return {
        "month": f"{row.month:%Y-%m}",
        "currency": row.currency,
        "closed": closed,
        "recognised": {
            **{kind: major(row.recognised[kind]) for kind in RECOGNISED},
            "total": major(sum(row.recognised.values())),
        },
        "deferred": {
            "opening": major(row.opening[AccountKind.WALLET_PAID]),
            **{why: major(row.deferral[why]) for why in Deferral},
            "closing": major(row.closing[AccountKind.WALLET_PAID]),
        },
        "balances": {
            kind: {"opening": major(row.opening[kind]), "closing": major(row.closing[kind])}
            for kind in BALANCES
        },
    }


def _document(closed: ClosedMonth) -> ClosedMonthDocument:
    return {
        "month": f"{closed.month:%Y-%m}",
        "closed_at": closed.closed_at.isoformat(),
        "requested_by": closed.requested_by,
        "approved_by": closed.approved_by,
        "trial_balance": closed.trial_balance,
    }


def _first(month: str) -> date:
    return date.fromisoformat(f"{month}-01")


def _months(start: date, end: date) -> list[date]:
    """Raises `InvalidRequest`."""
    count = (end.year - start.year) * 12 + end.month - start.month + 1
    if not 1 <= count <= MONTHS_MAX:
        raise InvalidRequest(f"start and end: name 1 to {MONTHS_MAX} months.")
    months = [start]
    while months[-1] < end:
        months.append(next_month(months[-1]))
    return months
