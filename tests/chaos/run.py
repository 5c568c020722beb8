"""The conservation run: `python -m tests.chaos --minutes 3 --seed 1`.

Exit status 1 when anything was lost, doubled, overspent or leaked; the report says which requests, and all of each.
"""

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import msgspec

from headrace_platform.local.state import State
from tests.chaos.audit import Wrong, judge
from tests.chaos.collecting import collect
from tests.chaos.faults import Faults
from tests.chaos.market import Market
from tests.chaos.report import Report
from tests.chaos.schedule import Plan, plan
from tests.chaos.stack import Stack
from tests.chaos.traffic import Traffic

STATE = Path(".headrace")
PROGRESS_SECONDS = 5.0
ANSWER_SECONDS_MAX = 60.0

Note = Callable[[str], None]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long there is traffic (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and traffic (default: 1)")
    given = parser.parse_args(arguments)
    if given.minutes <= 0.5:
        parser.error("--minutes: more than half a minute, or there is no room for faults")
    folder = (STATE / "chaos").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    State.at(STATE).create()
    folder.mkdir()
    began = time.monotonic()

    def note(what: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {what}\n")
        sys.stdout.flush()

    report = asyncio.run(conserve(plan(given.seed, given.minutes * 60), folder, note))
    document = report.document()
    (STATE / "chaos.json").write_text(json.dumps(document, indent=2) + "\n")
    # All that was known, for whoever wants to look at it in another way.
    (folder / "facts.json").write_bytes(msgspec.json.encode(report.facts))
    (STATE / "chaos.md").write_text(report.markdown())
    sys.stdout.write(report.markdown())
    note(", ".join(f"{wrong.value} {document[wrong.value]}" for wrong in Wrong))
    note(f"see {STATE}/chaos.md and {STATE}/chaos.json; logs are in {STATE}/chaos")
    return 0 if report.verdict.clean else 1


async def conserve(
    planned: Plan, folder: Path, note: Note, *, drain_wait_seconds: float | None = None
) -> Report:
    """Carries out a plan on a new stack in `folder`, which is there, and judges what is left."""
    stack = Stack(folder, planned, drain_wait_seconds=drain_wait_seconds)
    async with (
        stack.running(note),
        httpx2.AsyncClient(base_url=stack.billing_url, timeout=ANSWER_SECONDS_MAX) as http,
    ):
        market = Market(http, stack.secrets.admin)
        await market.open(revoked_keys=planned.revoked_keys)
        traffic = Traffic(planned, market, stack.gateway_ports)
        faults = Faults(planned, stack, market, note)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            telling = asyncio.create_task(_tell(traffic, faults, note))
            running = [
                group.create_task(traffic.flow(began)),
                group.create_task(faults.befall(began)),
            ]
            await asyncio.wait(running)
            telling.cancel()
        note("traffic and faults are over; waiting for rest")
        facts = await collect(stack, market, traffic, faults)
        return Report(planned, facts, judge(facts), stack.disks[0].how, stack.logs)


async def _tell(traffic: Traffic, faults: Faults, note: Note) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        admitted = sum(reply.admitted for reply in traffic.replies)
        under_way = ", ".join(fault.kind.value for fault in faults.under_way.values()) or "none"
        note(
            f"{len(traffic.replies)} requests answered, {admitted} of them admitted, {traffic.running} clients wait; "
            f"faults: {under_way}"
        )
