"""Service levels, credits and maintenance as the API shows them."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from typing_extensions import TypedDict

from headrace_billing.contracts.crediting import Assessed
from headrace_billing.contracts.level_store import ServiceCredit, Window
from headrace_billing.contracts.service_level import Attainment, Minute
from headrace_billing.contracts.terms import MILLION
from headrace_billing.money import major
from headrace_billing.rating.price import price_text


class AttainmentDocument(TypedDict):
    attained_percent: str
    good: int
    counted: int
    in_doubt: int
    minutes_excluded: int


class WindowDocument(TypedDict):
    id: str
    deployment: str
    start: str
    end: str
    reason: str
    declared_at: str


class WindowsDocument(TypedDict):
    items: list[WindowDocument]


class HourDocument(TypedDict):
    hour: str
    requests: int
    good: int
    minutes_down: int


class LevelDocument(AttainmentDocument):
    name: str
    deployment: str
    measure: str
    within_ms: int | None
    breached_below: str | None
    credit_percent: str
    fee: str
    credit: str
    hours: list[HourDocument]
    maintenance: list[WindowDocument]


class LevelsDocument(TypedDict):
    month: str
    preliminary: bool
    items: list[LevelDocument]


class CreditDocument(AttainmentDocument):
    id: str
    contract: str
    level: str
    month: str
    amount: str
    fee: str
    made_at: str
    reversed_at: str | None


class CreditsDocument(TypedDict):
    items: list[CreditDocument]


def level_document(one: Assessed, *, minutes: Iterable[Minute], windows: Sequence[Window]) -> LevelDocument:
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


def attainment_document(attainment: Attainment) -> AttainmentDocument:
    return {
        "attained_percent": percent_text(attainment.millionths),
        "good": attainment.good,
        "counted": attainment.counted,
        "in_doubt": attainment.doubts,
        "minutes_excluded": attainment.excluded,
    }


def credit_document(credit: ServiceCredit) -> CreditDocument:
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


def window_document(window: Window) -> WindowDocument:
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
