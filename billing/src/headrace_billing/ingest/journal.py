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
        ranges = [(1, self.contiguous)] if self.contiguous else []
        ranges += self.above
        ranges += [(sequence, sequence) for sequence in sequences]
        merged: list[Range] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        if merged and merged[0][0] == 1:
            return Received(merged[0][1], tuple(merged[1:]))
        return Received(0, tuple(merged))
