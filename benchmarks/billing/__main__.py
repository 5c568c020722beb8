"""Measures billing and writes what it saw into benchmarks/results/billing.json.

    python -m benchmarks.billing [NOUN ...] [--customers 100000] [--lines 50] [--events 350000] [--rolled-up 100000000]

Without a noun everything is measured. Figures of what is not measured now stay in the file as they were.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.billing import ingest, invoice_run, usage_queries

RESULTS = Path(__file__).resolve().parents[1] / "results" / "billing.json"

Options = argparse.Namespace
MEASUREMENTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "ingest": lambda options: ingest.run(events=options.events),
    "usage_queries": lambda options: usage_queries.run(events=options.rolled_up),
    "invoice_run": lambda options: invoice_run.run(
        customers=options.customers, lines=options.lines, requests=options.requests, workers=options.workers
    ),
}
"""Each returns figures under names of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nouns", nargs="*", metavar="NOUN", help=", ".join(MEASUREMENTS))
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=50)
    parser.add_argument("--requests", type=int, default=1, help="of each model by each customer")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--events", type=int, default=350_000)
    parser.add_argument("--rolled-up", type=int, default=100_000_000, help="events of the usage queries")
    options = parser.parse_args()
    unknown = set(options.nouns) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    for noun in options.nouns or MEASUREMENTS:
        load = os.getloadavg()[0]
        found = MEASUREMENTS[noun](options)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results |= found
        results.setdefault("measured", {})[noun] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "load_before": round(load, 2),
            "python": platform.python_version(),
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
        print(json.dumps(found, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
