"""Topping up by itself: when a balance falls below a threshold, within bounds that the customer has set.

Guards, for an unattended charge must never run away: at most one that waits; a pause between two; a ceiling a month;
and the first one that fails stops it until somebody switches it on again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

COOLDOWN = timedelta(minutes=10)
"""Between two of one wallet: time for a person to notice what spends so fast."""


class AutoState(StrEnum):
    ON = "on"
    STOPPED = "stopped"  # by a payment that failed, or by a dispute


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoTopUp:
    wallet: str
    org: str
    currency: str
    threshold_nanos: int
    """It is due once the balance is below."""
    amount_minor: int
    card: str
    monthly_ceiling_minor: int
    """By UTC's month, over what was started by itself and did not fail."""
    state: AutoState
    stopped_reason: str | None
    ceiling_told_at: datetime | None
    """When the customer was last told that the month's ceiling is reached."""


@dataclass(frozen=True, slots=True)
class Recent:
    """What was topped up by itself lately."""

    waiting: bool
    last_at: datetime | None
    this_month_minor: int


class Due(StrEnum):
    NOW = "now"
    NOT_YET = "not_yet"
    CEILING = "ceiling"  # it would be, but the month's ceiling is reached


def month_start(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def due(auto: AutoTopUp, recent: Recent, *, balance_nanos: int, now: datetime) -> Due:
    if auto.state is not AutoState.ON or balance_nanos >= auto.threshold_nanos or recent.waiting:
        return Due.NOT_YET
    if recent.last_at is not None and now < recent.last_at + COOLDOWN:
        return Due.NOT_YET
    if recent.this_month_minor + auto.amount_minor > auto.monthly_ceiling_minor:
        return Due.CEILING
    return Due.NOW


def ceiling_is_told(auto: AutoTopUp, *, now: datetime) -> bool:
    return auto.ceiling_told_at is not None and auto.ceiling_told_at >= month_start(now)
