"""Mixed traffic through one worker for minutes, its memory watched, and at the end nothing held and nothing left.

    python -m benchmarks.gateway.soak [--minutes 10] [--visits-per-second 120]

Adds what it saw to benchmarks/results/gateway.json. Exit status 1 where anything was left behind.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psycopg
import redis
from benchmarks.gateway import cores, machine, report, run
from benchmarks.gateway.rounds import Note, Plan
from benchmarks.gateway.stack import Stack
from benchmarks.gateway.subjects import GATEWAY, Subject, started_gateway
from benchmarks.gateway.visits import Visit, Visits

from headrace_contracts import channels

LEASES = "hr:leases"
SAMPLES = 300
REST_SECONDS_MAX = 60.0
POLL_SECONDS = 0.25

Sample = tuple[float, float, float]
"""Seconds since the beginning, RSS and PSS in MiB."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--visits-per-second", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where the JSON goes")
    given = parser.parse_args(arguments)
    if given.minutes <= 0:
        parser.error("--minutes: more than none")
    began = time.monotonic()

    def note(what: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        found = soak(given.minutes * 60, given.visits_per_second, Path(folder), note)
    report.keep({"soak": found}, given.out)
    print(json.dumps(found, indent=2))
    return 1 if found["left_behind"] else 0


def soak(seconds: float, visits_per_second: float, folder: Path, note: Note) -> dict[str, Any]:
    loads = machine.Loads()
    with run.market(folder, Plan()) as (opened, _, where):
        with started_gateway(GATEWAY, opened, "") as gateway:
            cores.hold(gateway.program.pid, {where.target})
            visits = Visits(gateway.target, 1 / visits_per_second)
            before = gateway.cpu_seconds
            samples = asyncio.run(_watch(visits, gateway, seconds, note))
            busy = (gateway.cpu_seconds - before) / seconds
            note(f"visits are over: {dict(visits.made)}; waiting for rest")
            left = _left_in_valkey(opened)
        # A worker ends well only when billing has acknowledged all of its journal.
        left += (
            [f"the gateway ended with status {gateway.program.returncode}"]
            if gateway.program.returncode
            else []
        )
        left += _left_in_state(opened)
        posted = _posted(opened)
    wanted = visits.made[Visit.PLAIN] + visits.made[Visit.STREAM]
    if not wanted <= posted <= visits.made.total():
        left.append(f"{wanted} requests were answered and {visits.made.total()} sent; billing has {posted}")
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": loads.told(),
        "minutes": round(seconds / 60, 2),
        "visits": {kind.value: count for kind, count in sorted(visits.made.items())},
        "posted": posted,
        "core_busy": round(busy, 3),
        "left_behind": left,
        **growth(samples),
    }


async def _watch(visits: Visits, gateway: Subject, seconds: float, note: Note) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    flowing = asyncio.create_task(visits.flow(seconds))
    while not flowing.done():
        samples.append((time.monotonic() - began, *cores.memory_mib(gateway.program.pid)))
        if len(samples) % 30 == 0:
            note(f"RSS {samples[-1][1]:.1f} MiB, {visits.made.total()} visits")
        await asyncio.wait([flowing], timeout=seconds / SAMPLES)
    await flowing
    return samples


def growth(samples: Sequence[Sample]) -> dict[str, Any]:
    """How memory went: a line through all samples but the first tenth's, and the means of the first and last third."""
    settled = samples[len(samples) // 10 :] if len(samples) >= 20 else samples
    third = max(1, len(settled) // 3)
    times = [at for at, _, _ in settled]
    found: dict[str, Any] = {"samples": len(samples)}
    for name, of in (("rss", 1), ("pss", 2)):
        values = [sample[of] for sample in settled]
        slope = statistics.linear_regression(times, values).slope if len(set(times)) > 1 else 0.0
        found |= {
            f"{name}_first_third_mib": round(statistics.mean(values[:third]), 2),
            f"{name}_last_third_mib": round(statistics.mean(values[-third:]), 2),
            f"{name}_slope_mib_per_hour": round(slope * 3600, 2),
            f"{name}_max_mib": round(max(sample[of] for sample in samples), 1),
        }
    step = max(1, len(samples) // 60)
    found["rss_curve"] = [[round(at), round(rss, 1)] for at, rss, _ in samples[::step]]
    return found


def _left_in_valkey(stack: Stack) -> list[str]:
    """What of leases, holds and gauges is there when all should be at rest."""
    stack.wait_until_posted(REST_SECONDS_MAX)
    with redis.Redis.from_url(stack.valkey_url, decode_responses=True) as client:
        until = time.monotonic() + REST_SECONDS_MAX
        while (found := list(_unrest(client))) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
    return found


def _unrest(client: "redis.Redis") -> Iterator[str]:
    if leases := client.zcard(LEASES):
        yield f"{leases} leases stand"
    for wallet in client.scan_iter(channels.wallet("*"), _type="hash"):
        if not wallet.endswith(":pending"):
            held, pending = (
                int(amount or 0) for amount in cast("list[str]", client.hmget(wallet, ["held", "pend"]))
            )
            if held or pending:
                yield f"{wallet}: {held} micro-units held, {pending} pending"
    for gauge in client.scan_iter(channels.counter("concurrency", "*", "*"), _type="string"):
        if count := int(cast("str", client.get(gauge)) or 0):
            yield f"{gauge} counts {count}"


def _left_in_state(stack: Stack) -> list[str]:
    folder = stack.state_dir(GATEWAY)
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def _posted(stack: Stack) -> int:
    with psycopg.connect(stack.database_url) as connection:
        row = connection.execute("SELECT count(DISTINCT id) FROM usage_events").fetchone()
    return 0 if row is None else int(row[0])


if __name__ == "__main__":
    raise SystemExit(main())
