"""Metrics as a service keeps them: definitions, plain numbers to add to, and samples of them at one moment.

What must stay true: adding is a few integer operations, without a lock; what a scrape costs, the scrape pays.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

MICROS_PER_SECOND = 1_000_000


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How the values of several processes make one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    """As it is scraped, the unit last but for a counter's `_total`."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()
    """Of a histogram's buckets, in its unit; the last bucket has no bound."""
    merge: Merge = Merge.SUM


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One series at one moment."""

    metric: str
    labels: tuple[str, ...]
    """In the order of the metric's."""
    value: float
    """Of a histogram: the sum of what was observed."""
    buckets: tuple[int, ...] = ()
    """Of a histogram: how many were observed in each, and in no lower one."""

    @property
    def series(self) -> tuple[str, tuple[str, ...]]:
        return self.metric, self.labels


class Durations:
    """How often something took how long."""

    __slots__ = ("_bounds_us", "buckets", "sum_us")

    def __init__(self, metric: Metric) -> None:
        assert metric.kind is Kind.HISTOGRAM, metric.name
        self._bounds_us = [round(bound * MICROS_PER_SECOND) for bound in metric.boundaries]
        self.buckets = [0] * (len(self._bounds_us) + 1)
        self.sum_us = 0

    def add(self, micros: int) -> None:
        self.buckets[bisect_left(self._bounds_us, micros)] += 1
        self.sum_us += micros

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def sample(self, metric: Metric, *labels: str) -> Sample:
        return Sample(metric.name, labels, self.sum_us / MICROS_PER_SECOND, tuple(self.buckets))


def sample(metric: Metric, value: float, *labels: str) -> Sample:
    assert len(labels) == len(metric.labels), (metric.name, labels)
    return Sample(metric.name, labels, float(value))


def merged(catalogue: Mapping[str, Metric], each: Iterable[Sequence[Sample]]) -> list[Sample]:
    """One sample a series of what several processes say of it."""
    found: dict[tuple[str, tuple[str, ...]], Sample] = {}
    for samples in each:
        for one in samples:
            before = found.get(one.series)
            found[one.series] = one if before is None else _together(catalogue[one.metric].merge, before, one)
    return list(found.values())


def _together(merge: Merge, one: Sample, other: Sample) -> Sample:
    match merge:
        case Merge.SUM:
            value = one.value + other.value
        case Merge.MAX:
            value = max(one.value, other.value)
        case Merge.MIN:
            value = min(one.value, other.value)
    buckets = tuple(sum(pair) for pair in zip(one.buckets, other.buckets, strict=True))
    return Sample(one.metric, one.labels, value, buckets)
