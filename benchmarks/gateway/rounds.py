"""The rounds: each subject in turn, again and again, so that what a shared machine does meanwhile hits all alike.

Ratios are of one round, and what is told is their median: from round to round a busy machine's figures move together.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gateway import cores, load
from benchmarks.gateway.load import Window, Work
from benchmarks.gateway.stack import Stack
from benchmarks.gateway.subjects import Subject

WARM_SECONDS = 0.5
POSTED_SECONDS_MAX = 60.0
"""For billing to take in what a round has made, so that it does not work during the next one."""

Note = Callable[[str], None]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 5
    plain_seconds: float = 2.0
    connections: int = 32
    steady_requests_per_second: float = 1000.0
    stream_seconds: float = 3.0
    streams: int = 100
    chunks: int = 64
    chunk_milliseconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds by then."""

    subject: float
    valkey: float
    billing: float


@dataclass(slots=True)
class Measured:
    """A subject's rounds, in their order."""

    plain: list[Figures] = field(default_factory=list)
    steady: list[Figures] = field(default_factory=list)
    streams: list[Figures] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    """To the first token of a stream, of all rounds."""
    rss_mib: float = 0.0
    pss_mib: float = 0.0


def run(subjects: Sequence[Subject], stack: Stack, plan: Plan, note: Note) -> dict[str, Measured]:
    measured = {subject.name: Measured() for subject in subjects}
    streaming = [subject for subject in subjects if subject.streams]
    for number, subject in _turns(subjects, plan):
        measured[subject.name].plain.append(figures := _plain(subject, stack, plan))
        note(f"round {number}, plain, {subject.name}: {_told(figures)}")
    for number, subject in _turns(streaming, plan):
        figures = _plain(subject, stack, plan, requests_per_second=plan.steady_requests_per_second)
        measured[subject.name].steady.append(figures)
        note(f"round {number}, steady, {subject.name}: {_told(figures)}")
    for number, subject in _turns(streaming, plan):
        figures, latencies_ms = _streams(subject, stack, plan)
        measured[subject.name].streams.append(figures)
        measured[subject.name].latencies_ms += latencies_ms
        note(f"round {number}, streams, {subject.name}: {_told(figures)}")
    for subject in subjects:
        of = measured[subject.name]
        of.rss_mib, of.pss_mib = cores.memory_mib(subject.program.pid)
    return measured


def _turns(subjects: Sequence[Subject], plan: Plan) -> Iterator[tuple[int, Subject]]:
    """With the number of the round, from 1."""
    for number in range(1, plan.rounds + 1):
        # Every other round the other way round: nobody always comes after the same one.
        for subject in subjects if number % 2 else reversed(subjects):
            yield number, subject


def _plain(
    subject: Subject, stack: Stack, plan: Plan, *, requests_per_second: float | None = None
) -> Figures:
    work = Work(
        streamed=False,
        connections=plan.connections * subject.connections,
        warm_seconds=WARM_SECONDS,
        seconds=plan.plain_seconds,
        requests_per_second=requests_per_second,
    )
    window = load.measure(subject.target, work, _spent(subject, stack))
    _settle(subject, stack)
    return {
        **_per(window, window.requests, "request"),
        "requests_per_second": window.requests / window.seconds,
        "latency_p50_ms": quantile(window.latencies_ms, 0.5),
        "latency_p99_ms": quantile(window.latencies_ms, 0.99),
    }


def _streams(subject: Subject, stack: Stack, plan: Plan) -> tuple[Figures, Sequence[float]]:
    stream_seconds = plan.chunks * plan.chunk_milliseconds / 1000
    work = Work(
        streamed=True,
        connections=plan.streams,
        warm_seconds=WARM_SECONDS,
        seconds=plan.stream_seconds,
        begin_seconds=stream_seconds,
    )
    window = load.measure(subject.target, work, _spent(subject, stack))
    _settle(subject, stack)
    return {
        **_per(window, window.chunks, "chunk"),
        "chunks_per_second": window.chunks / window.seconds,
        "streams": float(window.requests),
    }, window.latencies_ms


def _spent(subject: Subject, stack: Stack) -> Callable[[], Spent]:
    return lambda: Spent(
        subject.cpu_seconds,
        cores.cpu_seconds(stack.valkey.pid),
        sum(cores.cpu_seconds(program.pid) for program in stack.billing),
    )


def _settle(subject: Subject, stack: Stack) -> None:
    if subject.counts:
        stack.wait_until_posted(POSTED_SECONDS_MAX)


def _per(window: Window[Spent], count: int, unit: str) -> Figures:
    assert count > 0, "a window in which nothing was answered says nothing"
    before, after = window.before, window.after
    return {
        f"cpu_us_per_{unit}": (after.subject - before.subject) / count * 1e6,
        f"valkey_cpu_us_per_{unit}": (after.valkey - before.valkey) / count * 1e6,
        "core_busy": (after.subject - before.subject) / window.seconds,
        "billing_core_busy": (after.billing - before.billing) / window.seconds,
    }


def ratio(of: Sequence[Figures], to: Sequence[Figures], figure: str) -> dict[str, Any]:
    """Round by round, and their median."""
    ratios = [one[figure] / other[figure] for one, other in zip(of, to, strict=True)]
    return {"median": round(statistics.median(ratios), 3), "rounds": [round(each, 3) for each in ratios]}


def medians(rounds: Sequence[Figures]) -> Figures:
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies; the nearest that occurred."""
    assert values, "there is nothing to order"
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
