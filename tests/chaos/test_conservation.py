"""The conservation run in small: fixed seed, one fault of each main kind, on everything real."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.run import conserve
from tests.chaos.schedule import SHORT, plan

SEED = 1
TRAFFIC_SECONDS = 27
# A cold Valkey waits for journals; gateways send theirs within a second or two of hearing of it.
DRAIN_WAIT_SECONDS = 3


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_overspent_or_leaked_whatever_is_killed(tmp_path: Path) -> None:
    planned = plan(SEED, TRAFFIC_SECONDS, short=True)
    report = asyncio.run(conserve(planned, tmp_path, print, drain_wait_seconds=DRAIN_WAIT_SECONDS))
    assert report.verdict.clean, report.markdown()
    # All of it happened, and clients were served in spite of it.
    document = report.document()
    assert document["faults"] == {kind.value: 1 for kind, _ in SHORT}
    assert document["requests"]["answered"]["200"] > len(planned.visits) / 5
    assert document["reconciliation"] != "red"
