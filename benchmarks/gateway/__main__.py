"""What a request and a stream cost the gateway, beside its peers in the same run.

    python -m benchmarks.gateway [--rounds 5] [--plain-seconds 2] [--stream-seconds 3] [--python PATH ...]

Writes benchmarks/results/gateway.json and makes docs/reference/performance.md of it.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gateway import report, run
from benchmarks.gateway.peers import PEERS
from benchmarks.gateway.rounds import Plan
from benchmarks.gateway.subjects import Wanted


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Plan()
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--plain-seconds", type=float, default=defaults.plain_seconds)
    parser.add_argument("--stream-seconds", type=float, default=defaults.stream_seconds)
    parser.add_argument("--no-peers", action="store_true", help="the gateway alone")
    parser.add_argument(
        "--no-parts", action="store_true", help="not what each feature costs, nor two workers"
    )
    parser.add_argument(
        "--python",
        type=Path,
        action="append",
        default=[],
        help="an interpreter of another environment that has the gateway: measured beside this one",
    )
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where the JSON goes")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds: at least one")
    plan = Plan(rounds=given.rounds, plain_seconds=given.plain_seconds, stream_seconds=given.stream_seconds)
    wanted = Wanted(peers=() if given.no_peers else PEERS, parts=not given.no_parts, pythons=given.python)
    began = time.monotonic()

    def note(what: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        found = run.measure(wanted, plan, Path(folder), note)
    report.keep(found, given.out)
    print(json.dumps(found["targets"], indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
