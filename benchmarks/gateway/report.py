"""The figures as they are kept, and the page that is made of them: `python -m benchmarks.gateway.report`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gateway.chart import bars
from benchmarks.gateway.shortfalls import shortfalls
from benchmarks.gateway.subjects import GATEWAY
from benchmarks.gateway.targets import soak_verdicts

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/gateway.json"
PAGE = ROOT / "docs/reference/performance.md"
PICTURE = "performance.svg"

Found = Mapping[str, Any]

INTRODUCTION = """\
# Performance of the gateway

<!-- Made by `python -m benchmarks.gateway.report` of benchmarks/results/gateway.json; a test holds this page to it. -->

What a request costs in the gateway, measured beside other programs that relay requests, in the same run on the same
machine. The gateway does all that it does for a customer: it checks the key and a limit of every kind, takes a hold on the
wallet, settles, and has the usage event on its disk before the answer's last byte leaves. The others do less, nginx
nothing but relay.
"""

METHOD = """\
## How it is measured

`make bench-gateway` measures and writes this page; `make soak MINUTES=10` adds the soak. nginx is taken from the system;
`make bench-peers LITELLM=1 PORTKEY=1` installs the others. `make setup PYTHON=/usr/bin/python3` beforehand chooses the
interpreter, ours and LiteLLM's: distributions build theirs, as Docker's official images are built, with profile-guided and
link-time optimisation, and one without costs more.

- What is measured has one core to itself; the load, the engine, Valkey, Postgres and billing share another. One worker
  each. All programs run at once, and take turns: a round measures each, every other round in the opposite order. After a
  gateway's turn the run waits until billing has posted its events.
- CPU time is the whole process tree's, by the kernel's scheduler, within a window in which every client is at work. A
  ratio is of two windows of one round; what is told is the median of the rounds. Valkey's and billing's time is told apart.
- A plain request has 240 characters of prompt and some 500 bytes of answer. The engine answers at once, so that what remains
  is the relay's; the streams' engine sends {chunks} chunks, {chunk_milliseconds:g} ms apart, each at a time of its own, so that
  each may wake the relay. It counts in each chunk where it is asked to, as vLLM does: the gateway asks.
- The time to the first token has the load's and the engine's own in it, for all alike; the difference to nginx's is the
  gateway's.
"""


def keep(found: Found, path: Path) -> None:
    """Adds to what was found before, and makes the page anew if it is the page's figures that change."""
    together = (json.loads(path.read_text()) if path.exists() else {}) | dict(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(together, indent=2) + "\n")
    if path == RESULTS and "subjects" in together:
        write()


def write() -> None:
    found = json.loads(RESULTS.read_text())
    PAGE.write_text(page(found))
    PAGE.with_name(PICTURE).write_text(picture(found))


def page(found: Found) -> str:
    parts = [
        INTRODUCTION,
        _measured(found),
        "\n".join(_targets(found)),
        "\n".join(shortfalls(found)),
        f"![CPU time of a plain request]({PICTURE})\n",
        "\n".join(_plain(found)),
        "\n".join(_steady(found)),
        "\n".join(_streams(found)),
        "\n".join(_steps(found)),
        "\n".join(_soak(found)),
        METHOD.format(**found["plan"]),
    ]
    return "\n".join(part for part in parts if part)


def picture(found: Found) -> str:
    """Of the CPU time of a plain request; what is a hundred times as long would leave nothing to see of the others."""
    costs = {name: subject["plain"]["cpu_us_per_request"] for name, subject in found["subjects"].items()}
    ours = costs[GATEWAY]
    steps = {step["step"] for step in found["steps"]} - {GATEWAY}
    shown = {name: cost for name, cost in costs.items() if name not in steps and cost < 10 * ours}
    return bars("CPU time of a plain request, microseconds", shown, emphasised=GATEWAY)


def _measured(found: Found) -> str:
    machine, load, plan = found["machine"], found["load_average"], found["plan"]
    return (
        f"Measured {found['measured_at'][:10]}: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}, {machine['python']}; load average {load['before']} before and {load['after']} after the run, "
        f"which makes about 2 of it: what is more are others on the machine. {plan['rounds']} round{'s' if plan['rounds'] > 1 else ''} of "
        f"{plan['plain_seconds']:g} s with {plan['connections']} connections and of {plan['stream_seconds']:g} s with "
        f"{plan['streams']} streams.\n"
    )


def _targets(found: Found) -> Iterator[str]:
    yield "## Targets\n"
    yield "| what | target | goal | seen | |"
    yield "|---|---|---|---|---|"
    for verdict in (*found["targets"], *soak_verdicts(found.get("soak"))):
        goal = "" if verdict["goal"] is None else f"{verdict['goal']:g}"
        seen = "not measured" if verdict["value"] is None else f"{verdict['value']:g} {verdict['unit']}"
        met = {True: "met", False: "**not met**", None: ""}[verdict["met"]]
        yield f"| {verdict['name']} | {verdict['target']} | {goal} | {seen} | {met} |"
    if found["absent"]:
        yield ""
        yield (
            "Not installed in this run: "
            + ", ".join(f"{n} (`{by}`)" for n, by in found["absent"].items())
            + "."
        )
    yield ""


def _plain(found: Found) -> Iterator[str]:
    yield "## Plain requests\n"
    yield "| | version | does | CPU, µs | Valkey's CPU, µs | a second | p50, ms | p99, ms | PSS, MiB |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    steps = {step["step"] for step in found["steps"]} - {GATEWAY}
    for name, subject in found["subjects"].items():
        if name in steps:
            continue
        plain = subject["plain"]
        valkey = f"{plain['valkey_cpu_us_per_request']:.0f}" if name.startswith(GATEWAY) else ""
        yield (
            f"| {name} | {subject['version']} | {subject['does']} | {plain['cpu_us_per_request']:.1f} | {valkey} "
            f"| {plain['requests_per_second']:,.0f} | {plain['latency_p50_ms']:.2f} | {plain['latency_p99_ms']:.2f} "
            f"| {subject['pss_mib']:.0f} |"
        )
    busy = found["subjects"][GATEWAY]["plain"]
    yield (
        f"\nThe gateway kept its core busy to {busy['core_busy']:.0%} and billing's programs theirs to "
        f"{busy['billing_core_busy']:.0%}: where the former is below 100 %, the load's core was what bounded the requests a "
        "second, and latencies have the load's own queue in them.\n"
    )


def _steady(found: Found) -> Iterator[str]:
    steady = {name: of["steady"] for name, of in found["subjects"].items() if "steady" in of}
    yield f"## At {found['plan']['steady_requests_per_second']:,.0f} requests a second\n"
    yield (
        "A request costs most where each wakes the process for itself alone. Above, all are measured as fast as they answer; "
        "here, at the same steady rate for all, as a gateway is that has its hours of rest.\n"
    )
    yield "| | CPU, µs | a second | p50, ms | p99, ms |"
    yield "|---|--:|--:|--:|--:|"
    for name, of in steady.items():
        yield (
            f"| {name} | {of['cpu_us_per_request']:.1f} | {of['requests_per_second']:,.0f} | {of['latency_p50_ms']:.2f} "
            f"| {of['latency_p99_ms']:.2f} |"
        )
    yield ""


def _streams(found: Found) -> Iterator[str]:
    yield "## Streams\n"
    yield "| | CPU a chunk, µs | chunks a second | first token p50, ms | p99, ms |"
    yield "|---|--:|--:|--:|--:|"
    for name, subject in found["subjects"].items():
        if "streams" in subject:
            streams = subject["streams"]
            yield (
                f"| {name} | {streams['cpu_us_per_chunk']:.1f} | {streams['chunks_per_second']:,.0f} "
                f"| {streams['ttft_p50_ms']:.2f} | {streams['ttft_p99_ms']:.2f} |"
            )
    yield ""


def _steps(found: Found) -> Iterator[str]:
    if not found["steps"]:
        return
    yield "## What each feature costs\n"
    yield "The gateway's own parts, a few at a time, each row with all above it. The first one is the floor.\n"
    yield "| | CPU of a plain request, µs | more than above, µs | requests a second |"
    yield "|---|--:|--:|--:|"
    before = None
    for step in found["steps"]:
        cost = step["cpu_us_per_request"]
        more = "" if before is None else f"{cost - before:+.1f}"
        requests_per_second = found["subjects"][step["step"]]["plain"]["requests_per_second"]
        yield f"| {step['adds']} | {cost:.1f} | {more} | {requests_per_second:,.0f} |"
        before = cost
    yield ""


def _soak(found: Found) -> Iterator[str]:
    soak = found.get("soak")
    if soak is None:
        return
    visits = soak["visits"]
    yield "## Soak\n"
    yield (
        f"{soak['minutes']:g} minutes on {soak['measured_at'][:10]}, load average {soak['load_average']['before']} before and "
        f"{soak['load_average']['after']} after: {visits.get('plain', 0):,} plain requests, {visits.get('stream', 0):,} streams and "
        f"{visits.get('hang_up', 0):,} that hung up, through one worker that was busy to {soak['core_busy']:.0%}.\n"
    )
    yield "| | first third, MiB | last third, MiB | most, MiB | slope, MiB an hour |"
    yield "|---|--:|--:|--:|--:|"
    for name in ("rss", "pss"):
        cells = [
            f"{soak[f'{name}_{part}']:.1f}"
            for part in ("first_third_mib", "last_third_mib", "max_mib", "slope_mib_per_hour")
        ]
        yield f"| {name.upper()} | " + " | ".join(cells) + " |"
    left = soak["left_behind"]
    yield "\nLeft behind at the end: " + ("nothing." if not left else "; ".join(left) + ".")
    yield ""


if __name__ == "__main__":
    write()
