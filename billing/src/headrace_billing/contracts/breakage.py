"""Usage that comes late for a period that has ended: what was broken of its commitment pays for it first.

So a customer whose usage was counted late keeps what it had paid for it. How much breakage pays follows from what came
late in all, so that it depends neither on the order nor on the batches in which usage and its corrections came.
"""

from dataclasses import dataclass, field, replace
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Ended:
    contract: str
    index: int
    ends_at: datetime
    broken_nanos: int
    """When it ended, and what corrections of its usage have added."""
    late_nanos: int
    """Net charge of usage that came since; below zero where corrections were larger."""
    paid_nanos: int
    """Of that, by breakage."""

    def later(self, nanos: int) -> "Ended":
        late = self.late_nanos + nanos
        return replace(self, late_nanos=late, paid_nanos=min(max(late, 0), self.broken_nanos))


@dataclass(slots=True)
class Late:
    """What a batch of usage takes from breakage, charge by charge."""

    ended: dict[tuple[str, date], Ended]
    """By wallet and month."""
    changed: dict[tuple[str, int], Ended] = field(default_factory=dict)
    """By contract and period."""

    def ended_at(self, wallet: str, month: date) -> datetime | None:
        """When the period of that month did; null where it has not."""
        found = self.ended.get((wallet, month))
        return None if found is None else found.ends_at

    def pays(self, wallet: str, month: date, nanos: int) -> int:
        """What breakage pays more (or less) by a charge for that month; nothing where its period has not ended."""
        found = self.ended.get((wallet, month))
        if found is None or not nanos:
            return 0
        period = (found.contract, found.index)
        before = self.changed.get(period, found)
        self.changed[period] = before.later(nanos)
        return self.changed[period].paid_nanos - before.paid_nanos
