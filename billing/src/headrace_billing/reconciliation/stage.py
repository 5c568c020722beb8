"""The stages that usage goes through, each held against the one before it, and what the last look at each saw.

engine → events → rollups → rated → ledger → invoices. What looks at events looks at one day at a time, so that it
costs the same however long the books are; the books themselves are sums, and are looked at as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from headrace_billing.reconciliation.documents import StageDocument
from headrace_billing.reconciliation.report import Culprit, worse
from headrace_billing.reconciliation.request import Reason, Status

DAYS = 35
"""How far back days are looked at again and again: as far as usage comes in unasked."""
RECENT_DAYS = 2
"""Looked at each time: where most of what changes does."""
CULPRITS_KEPT_MAX = 20


class Stage(StrEnum):
    """In the order in which usage goes through them."""

    ENGINE = "engine = events"
    KEPT_ASIDE = "nothing kept aside"  # conflicts and quarantine
    METERS = "outside meters' numbers"
    ROLLUPS = "events = rollups"
    RATED = "rollups = rated"
    LEDGER = "rated = ledger"
    INVOICES = "ledger = invoices"


@dataclass(frozen=True, slots=True)
class Side:
    """Two numbers that must be one; tokens, requests or nano-units, as `unit` says."""

    unit: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class Look:
    """What one stage was like, at one moment, on one day or as a whole."""

    stage: Stage
    day: date | None
    as_of: datetime
    status: Status
    sides: Sequence[Side] = ()
    culprits: Sequence[Culprit] = ()
    culprits_count: int = 0
    reasons: Mapping[Reason, int] = field(default_factory=dict)
    """How many culprits for each."""
    unwitnessed_requests: int = 0
    """Requests to engines that are declared to tell nothing."""


SETTLED = frozenset({Status.GREEN, Status.UNWITNESSED})
"""What no later record will change."""


def due(known: Iterable[tuple[date, datetime, Status]], *, today: date) -> list[date]:
    """The days to look at now: the recent ones, and of the others the one that was not looked at for longest.

    A day that is red or pending is looked at until it is neither, however long ago it was.
    """
    looked_at = list(known)
    seen = {day: as_of for day, as_of, _ in looked_at}
    recent = [today - timedelta(days=n) for n in range(RECENT_DAYS)]
    older = [today - timedelta(days=n) for n in range(RECENT_DAYS, DAYS)]
    older += [day for day, _, status in looked_at if day < older[-1] and status not in SETTLED]
    never = [day for day in older if day not in seen]
    return [*recent, never[0] if never else min(older, key=lambda day: seen[day])]


def documents(looks: Iterable[Look]) -> list[StageDocument]:
    """By stage, in order: as bad as its worst day, and as old as its oldest look."""
    by_stage: dict[Stage, list[Look]] = {}
    for look in looks:
        by_stage.setdefault(look.stage, []).append(look)
    return [_document(stage, by_stage[stage]) for stage in Stage if stage in by_stage]


def _document(stage: Stage, looks: Sequence[Look]) -> StageDocument:
    status = Status.GREEN
    for look in looks:
        status = worse(status, look.status)
    units = dict.fromkeys(side.unit for look in looks for side in look.sides)
    sides = [
        Side(
            unit,
            sum(side.left for look in looks for side in look.sides if side.unit == unit),
            sum(side.right for look in looks for side in look.sides if side.unit == unit),
        )
        for unit in units
    ]
    days = sorted((look for look in looks if look.day is not None), key=lambda look: look.as_of)
    return {
        "stage": stage,
        "status": status,
        "as_of": min(look.as_of for look in looks).isoformat(),
        "newest": max(look.as_of for look in looks).isoformat(),
        "sides": [
            {"unit": side.unit, "left": str(side.left), "right": str(side.right), "holds": side.holds}
            for side in sides
        ],
        "unwitnessed_requests": sum(look.unwitnessed_requests for look in looks),
        "culprits_count": sum(look.culprits_count for look in looks),
        "culprits": [culprit.document() for look in looks for culprit in look.culprits][:CULPRITS_KEPT_MAX],
        "days": [
            {
                "day": look.day.isoformat() if look.day else None,
                "status": look.status,
                "as_of": look.as_of.isoformat(),
                "culprits_count": look.culprits_count,
            }
            for look in sorted(days, key=lambda look: look.day or date.min, reverse=True)
        ],
    }
