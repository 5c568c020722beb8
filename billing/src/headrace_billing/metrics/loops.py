"""How a worker's loops go."""

import time
from collections.abc import Iterator

from headrace_billing.metrics import catalogue
from headrace_telemetry.metrics import Sample, sample


class LoopCounts:
    def __init__(self) -> None:
        self._well_at: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def begun(self, loop: str) -> None:
        """Counts from now on, so that a loop that never goes well shows too."""
        self._well_at[loop] = time.monotonic()
        self._failures[loop] = 0

    def went_well(self, loop: str) -> None:
        self._well_at[loop] = time.monotonic()

    def failed(self, loop: str) -> None:
        self._failures[loop] += 1

    def samples(self) -> Iterator[Sample]:
        now = time.monotonic()
        for loop, at in list(self._well_at.items()):
            yield sample(catalogue.LOOP_AGE, now - at, loop)
        for loop, count in list(self._failures.items()):
            yield sample(catalogue.LOOP_FAILURES, count, loop)
