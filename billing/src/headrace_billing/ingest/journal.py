"""How much of a journal has been received: everything up to a sequence, and ranges beyond the first gap."""

from collections.abc import Iterable
from dataclasses import dataclass

Range = tuple[int, int]
"""First and last sequence, both inclusive."""


@dataclass(frozen=True, slots=True)
class Received:
    contiguous: int = 0
    """Nothing is missing up to here, so the gateway may forget it."""
    above: tuple[Range, ...] = ()
    """What came beyond the gap: ascending, not touching each other."""

    def with_more(self, sequences: Iterable[int]) -> "Received":
        """Whatever the order, and however often."""
        return self._with((sequence, sequence) for sequence in sequences)

    def with_range(self, first: int, last: int) -> "Received":
        return self._with([(first, last)])

    def misses(self, first: int, last: int) -> bool:
        """Whether all of these are missing, and something beyond them is not."""
        if not self.contiguous < first <= last or not self.above or last > self.above[-1][1]:
            return False
        return all(last < begins or first > ends for begins, ends in self.above)

    def _with(self, more: Iterable[Range]) -> "Received":
        ranges = [(1, self.contiguous)] if self.contiguous else []
        ranges += self.above
        ranges += more
        merged: list[Range] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        if merged and merged[0][0] == 1:
            return Received(merged[0][1], tuple(merged[1:]))
        return Received(0, tuple(merged))
