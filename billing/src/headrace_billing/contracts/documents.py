"""Contracts as the API shows them."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

from headrace_billing.contracts.assessing import Fees
from headrace_billing.contracts.contract import Contract
from headrace_billing.contracts.crediting import Assessed
from headrace_billing.contracts.gpu_fee import seconds
from headrace_billing.contracts.level_store import ServiceCredit, Window
from headrace_billing.contracts.period_store import Period, PeriodLot
from headrace_billing.contracts.service_level import Attainment, Minute
from headrace_billing.contracts.standing import Standing
from headrace_billing.contracts.terms import MILLION
from headrace_billing.contracts.used_store import Day
from headrace_billing.money import major
from headrace_billing.rating.price import price_text

Document = dict[str, Any]


def summary(contract: Contract, *, now: datetime) -> Document:
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


def periods_document(periods: Iterable[Period], lots: Sequence[PeriodLot]) -> list[Document]:
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


def standing_document(standing: Standing) -> Document:
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


def burn_down_document(days: Iterable[Day], *, whole_nanos: int) -> list[Document]:
    """`left` is of what was committed and rolled over, without what was used beyond."""
    found, used = [], 0
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


def gpu_document(month: date, fees: Fees, *, preliminary: bool) -> Document:
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


def level_document(one: Assessed, *, minutes: Iterable[Minute], windows: Sequence[Window]) -> Document:
    hours: dict[datetime, list[Minute]] = {}
    for minute in minutes:
        hours.setdefault(minute.at.replace(minute=0), []).append(minute)
    level, tier = one.level, one.tier
    return {
        "name": level.name,
        "deployment": level.deployment,
        "measure": level.measure,
        "within_ms": level.within_ms,
        **attainment_document(one.attainment),
        "breached_below": None if tier is None else percent_text(tier.below_millionths),
        "credit_percent": "0" if tier is None else percent_text(tier.credit_millionths),
        "fee": major(one.fee_nanos),
        "credit": major(one.nanos),
        "hours": [
            {
                "hour": hour.isoformat(),
                "requests": sum(minute.counted for minute in of),
                "good": sum(minute.good for minute in of),
                "minutes_down": sum(1 for minute in of if not minute.good),
            }
            for hour, of in sorted(hours.items())
        ],
        "maintenance": [window_document(window) for window in windows],
    }


def attainment_document(attainment: Attainment) -> Document:
    return {
        "attained_percent": percent_text(attainment.millionths),
        "good": attainment.good,
        "counted": attainment.counted,
        "in_doubt": attainment.doubts,
        "minutes_excluded": attainment.excluded,
    }


def credit_document(credit: ServiceCredit) -> Document:
    return {
        "id": credit.id,
        "contract": credit.contract,
        "level": credit.level,
        "month": f"{credit.month:%Y-%m}",
        "amount": major(credit.nanos),
        "fee": major(credit.fee_nanos),
        **attainment_document(credit.attainment),
        "made_at": credit.made_at.isoformat(),
        "reversed_at": None if credit.reversed_at is None else credit.reversed_at.isoformat(),
    }


def window_document(window: Window) -> Document:
    return {
        "id": window.id,
        "deployment": window.deployment,
        "start": window.span.start.isoformat(),
        "end": window.span.end.isoformat(),
        "reason": window.reason,
        "declared_at": window.declared_at.isoformat(),
    }


def percent_text(millionths: int) -> str:
    """999 000 → `"99.9"`."""
    return price_text(millionths * 100 * MILLION)
