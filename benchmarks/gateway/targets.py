"""What the gateway promises of its speed, and whether a run saw it kept."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.gateway.rounds import Measured, quantile, ratio
from benchmarks.gateway.subjects import GATEWAY, TWO_WORKERS, TWO_WORKERS_TWICE

PLAIN = "CPU per plain request, of vllm-router's"
CHUNK = "CPU per relayed chunk, of nginx's"
BEYOND_NGINX = "Time to first token beyond nginx's, {}, 100 streams"
TWO_WORKERS_COST = "CPU per plain request with two workers, of that with one, the same load for both together"
TWO_WORKERS_TWICE_COST = "CPU per plain request with two workers, of that with one, the same load for each"

RSS_MIB_MAX = 120.0
GROWTH_MIB_MAX = 2.0
"""Between a soak's first and last third; less is what a heap's fragments come and go by."""

TIMES = "\N{MULTIPLICATION SIGN}"

SOAK_MINUTES_MIN = 10
"""Heap and caches fill for two minutes: what grows in a shorter soak is that."""

Verdict = dict[str, Any]


def verdicts(measured: Mapping[str, Measured]) -> list[Verdict]:
    """One for each target; `value` is null where nobody was there to compare with."""
    return list(_verdicts(measured))


def _verdicts(measured: Mapping[str, Measured]) -> Iterator[Verdict]:
    ours, nginx = measured[GATEWAY], measured.get("nginx")
    router = measured.get("vllm-router")
    figure = "cpu_us_per_request"
    yield at_most(
        PLAIN,
        TIMES,
        1.3,
        None if router is None else ratio(ours.plain, router.plain, figure)["median"],
        goal=1.0,
    )
    for name, floor in (("litellm", 80.0), ("portkey", 20.0)):
        peer = measured.get(name)
        yield at_least(
            f"CPU per plain request of {name}, of ours",
            TIMES,
            floor,
            None if peer is None else ratio(peer.plain, ours.plain, figure)["median"],
        )
    yield at_most(
        CHUNK,
        TIMES,
        2.2,
        None if nginx is None else ratio(ours.streams, nginx.streams, "cpu_us_per_chunk")["median"],
        goal=1.8,
    )
    for part, name, ceiling in ((0.5, "median", 1.0), (0.99, "99 %", 5.0)):
        yield at_most(
            BEYOND_NGINX.format(name),
            "ms",
            ceiling,
            None
            if nginx is None
            else round(quantile(ours.latencies_ms, part) - quantile(nginx.latencies_ms, part), 3),
        )
    yield at_most("RSS of a worker", "MiB", RSS_MIB_MAX, round(ours.rss_mib, 1))
    for name, subject in ((TWO_WORKERS_COST, TWO_WORKERS), (TWO_WORKERS_TWICE_COST, TWO_WORKERS_TWICE)):
        workers = measured.get(subject)
        yield at_most(
            name,
            TIMES,
            1.1,
            None if workers is None else ratio(workers.plain, ours.plain, figure)["median"],
        )


def at_most(
    name: str, unit: str, target: float, value: float | None, *, goal: float | None = None
) -> Verdict:
    met = None if value is None else value <= target
    return {"name": name, "unit": unit, "target": f"≤ {target:g}", "goal": goal, "value": value, "met": met}


def at_least(name: str, unit: str, target: float, value: float | None) -> Verdict:
    met = None if value is None else value >= target
    return {"name": name, "unit": unit, "target": f"≥ {target:g}", "goal": None, "value": value, "met": met}


def soak_verdicts(soak: Mapping[str, Any] | None) -> Iterator[Verdict]:
    name = "Growth of a worker's RSS from the first third of a soak to the last"
    grown = None if soak is None else round(soak["rss_last_third_mib"] - soak["rss_first_third_mib"], 2)
    verdict = at_most(name, "MiB", GROWTH_MIB_MAX, grown)
    yield verdict if soak is None or soak["minutes"] >= SOAK_MINUTES_MIN else verdict | {"met": None}
    left = None if soak is None else len(soak["left_behind"])
    yield at_most("Leases, holds and events left behind by a soak", "", 0, left)
