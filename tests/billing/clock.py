"""A clock that tests move, and the API on it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.billing.seller import NOW


@dataclass(slots=True)
class Clock:
    """Time stands still until it is told to pass."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **time: int) -> None:
        self.now += timedelta(**time)
