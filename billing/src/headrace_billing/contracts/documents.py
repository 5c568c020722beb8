"""Contracts as the API shows them."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from typing_extensions import TypedDict

from headrace_billing.contracts.assessing import Fees
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.gpu_fee import seconds
from headrace_billing.contracts.period_store import Period, PeriodLot
from headrace_billing.contracts.standing import Standing
from headrace_billing.contracts.store import VersionDocument
from headrace_billing.contracts.used_store import Day
from headrace_billing.money import major


class ContractSummary(TypedDict):
    id: str
    organization: str
    name: str
    currency: str
    status: str
    starts_on: str
    ends_on: str
    months: int
    cadence: str
    projects: list[str]
    wallet: str | None
    version: int
    signed_at: str


class PeriodLotDocument(TypedDict):
    id: str
    rolled_from: str | None
    expires_at: str
    granted: str
    used: str
    left: str
    rolled: str
    broken: str
    taken_back: str


class PeriodDocument(TypedDict):
    period: int
    start: str
    end: str
    version: int
    committed: str
    closed_at: str | None
    broken: str
    paid_by_breakage: str
    lots: list[PeriodLotDocument]


class ContractDocument(ContractSummary):
    versions: list[VersionDocument]
    periods: list[PeriodDocument]


class AmendedDocument(TypedDict):
    contract: str
    version: int


class CommitmentDocument(TypedDict):
    period: int
    start: str
    end: str
    committed: str
    rolled_in: str
    used: str
    used_percent: int
    left: str
    overage: str
    projected: str
    projected_true_up: str
    days_left: int


class StandingDocument(TypedDict):
    contract: str
    currency: str
    commitment: CommitmentDocument | None


class DayDocument(TypedDict):
    day: str
    used: str
    used_so_far: str
    left: str


class BurnDownDocument(TypedDict):
    contract: str
    currency: str
    period: int
    items: list[DayDocument]


class GpuRateDocument(TypedDict):
    deployment: str
    profile: str
    accelerators_reserved: int
    reserved_seconds: str
    used_seconds: str
    idle_seconds: str
    on_demand_seconds: str
    estimated_seconds: str
    reserved_amount: str
    on_demand_amount: str


class GpuTimeDocument(TypedDict):
    month: str
    preliminary: bool
    items: list[GpuRateDocument]
    amount: str


def summary(contract: Contract, *, now: datetime) -> ContractSummary:
    """As lists show it."""
    return {
        "id": contract.id,
        "organization": contract.organization,
        "name": contract.name,
        "currency": contract.currency,
        "status": contract.status(now),
        "starts_on": contract.term.starts_on.isoformat(),
        "ends_on": contract.term.ends_at.date().isoformat(),
        "months": contract.term.months,
        "cadence": contract.term.cadence,
        "projects": list(contract.projects),
        "wallet": contract.wallet,
        "version": contract.version(contract.period_at(now)).number,
        "signed_at": contract.signed_at.isoformat(),
    }


def periods_document(periods: Iterable[Period], lots: Sequence[PeriodLot]) -> list[PeriodDocument]:
    """Those that have begun, each with what its lots came to."""
    return [
        {
            "period": period.index,
            "start": period.span.start.isoformat(),
            "end": period.span.end.isoformat(),
            "version": period.version,
            "committed": major(period.committed_nanos),
            "closed_at": None if period.closed_at is None else period.closed_at.isoformat(),
            "broken": major(period.broken_nanos),
            "paid_by_breakage": major(period.paid_nanos),
            "lots": [
                {
                    "id": lot.id,
                    "rolled_from": lot.rolled_from,
                    "expires_at": lot.expires_at.isoformat(),
                    "granted": major(lot.granted_nanos),
                    "used": major(lot.used_nanos),
                    "left": major(lot.left_nanos),
                    "rolled": major(lot.rolled_nanos),
                    "broken": major(lot.broken_nanos),
                    "taken_back": major(lot.taken_back_nanos),
                }
                for lot in lots
                if lot.period == period.index
            ],
        }
        for period in periods
    ]


def standing_document(standing: Standing) -> CommitmentDocument:
    return {
        "period": standing.period,
        "start": standing.span.start.isoformat(),
        "end": standing.span.end.isoformat(),
        "committed": major(standing.committed_nanos),
        "rolled_in": major(standing.rolled_in_nanos),
        "used": major(standing.used_nanos),
        "used_percent": standing.used_percent,
        "left": major(standing.left_nanos),
        "overage": major(standing.overage_nanos),
        "projected": major(standing.projected_nanos),
        "projected_true_up": major(standing.projected_true_up_nanos),
        "days_left": standing.days_left,
    }


def burn_down_document(days: Iterable[Day], *, whole_nanos: int) -> list[DayDocument]:
    """`left` is of what was committed and rolled over, without what was used beyond."""
    found: list[DayDocument] = []
    used = 0
    for one in days:
        used += one.used.total_nanos
        found.append(
            {
                "day": one.day.isoformat(),
                "used": major(one.used.total_nanos),
                "used_so_far": major(used),
                "left": major(max(whole_nanos - used, 0)),
            }
        )
    return found


def gpu_document(month: date, fees: Fees, *, preliminary: bool) -> GpuTimeDocument:
    return {
        "month": f"{month:%Y-%m}",
        "preliminary": preliminary,
        "items": [
            {
                "deployment": rate.deployment,
                "profile": rate.profile,
                "accelerators_reserved": rate.accelerators,
                "reserved_seconds": seconds(time.reserved_ms),
                "used_seconds": seconds(time.used_ms),
                "idle_seconds": seconds(time.idle_ms),
                "on_demand_seconds": seconds(time.on_demand_ms),
                "estimated_seconds": seconds(time.estimated_ms),
                "reserved_amount": major(dues[0].nanos),
                "on_demand_amount": major(dues[1].nanos),
            }
            for rate, time, dues in fees.gpu.values()
        ],
        "amount": major(fees.gpu_nanos),
    }
