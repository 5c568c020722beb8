"""One run: the stack, the engine, the subjects, the rounds, and what they come to."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gateway import cores, machine, rounds, stack
from benchmarks.gateway.cores import Cores
from benchmarks.gateway.peers import Peer
from benchmarks.gateway.programs import launching, listens, started
from benchmarks.gateway.rounds import Measured, Note, Plan
from benchmarks.gateway.stack import Stack
from benchmarks.gateway.subjects import STEPS, Subject, Wanted, started_subjects
from benchmarks.gateway.targets import verdicts

from headrace_platform.local.ports import unused_port

ROOT = Path(__file__).parents[2]


def measure(wanted: Wanted, plan: Plan, folder: Path, note: Note) -> dict[str, Any]:
    """What was found, as it goes into JSON."""
    loads = machine.Loads()
    with market(folder, plan) as (opened, engine_port, where):
        note("the stack is up")
        with started_subjects(wanted, opened, engine_port, where) as (subjects, absent):
            note(f"measured are {', '.join(subject.name for subject in subjects)}")
            measured = rounds.run(subjects, opened, plan, note)
    return document(subjects, absent, measured, plan, loads.told())


@contextmanager
def market(folder: Path, plan: Plan) -> Iterator[tuple[Stack, int, Cores]]:
    """All but what is measured, on the core of the load; this process too."""
    where, before = cores.choose(), os.sched_getaffinity(0)
    cores.hold(os.getpid(), {where.load})
    try:
        with _market(folder, plan) as (opened, port):
            yield opened, port, where
    finally:
        cores.hold(os.getpid(), before)


@contextmanager
def _market(folder: Path, plan: Plan) -> Iterator[tuple[Stack, int]]:
    port = unused_port()
    engine = launching(
        [
            sys.executable,
            "-m",
            "benchmarks.gateway.engine",
            str(port),
            str(plan.chunks),
            str(plan.chunk_milliseconds),
        ],
        {},
        ROOT,
    )
    with started(engine, lambda: listens(port), folder / "engine.log"), stack.running(folder, port) as opened:
        yield opened, port


def document(
    subjects: Sequence[Subject],
    absent: Sequence[Peer],
    measured: Mapping[str, Measured],
    plan: Plan,
    load_average: Mapping[str, float],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
        "load_average": dict(load_average),
        "plan": {name: getattr(plan, name) for name in Plan.__dataclass_fields__},
        "absent": {peer.name: peer.brought_by for peer in absent},
        "subjects": {subject.name: _told(subject, measured[subject.name]) for subject in subjects},
    }
    steps = [step for step in STEPS if step in measured]
    found["steps"] = (
        [
            {
                "step": step,
                "adds": STEPS[step],
                "cpu_us_per_request": found["subjects"][step]["plain"]["cpu_us_per_request"],
            }
            for step in steps
        ]
        if len(steps) > 1
        else []
    )
    found["targets"] = verdicts(measured)
    return found


def _told(subject: Subject, of: Measured) -> dict[str, Any]:
    told: dict[str, Any] = {
        "does": subject.does,
        "version": subject.version,
        "plain": rounds.medians(of.plain),
        "plain_rounds_cpu_us": [round(each["cpu_us_per_request"], 2) for each in of.plain],
        "rss_mib": round(of.rss_mib, 1),
        "pss_mib": round(of.pss_mib, 1),
    }
    if of.steady:
        told["steady"] = rounds.medians(of.steady)
    if of.streams:
        told["streams"] = {
            **rounds.medians(of.streams),
            "ttft_p50_ms": round(rounds.quantile(of.latencies_ms, 0.5), 3),
            "ttft_p99_ms": round(rounds.quantile(of.latencies_ms, 0.99), 3),
        }
        told["streams_rounds_cpu_us"] = [round(each["cpu_us_per_chunk"], 2) for each in of.streams]
    return told
