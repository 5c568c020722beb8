"""Short runs of everything: they show that the harness measures, never how fast anything is."""

from pathlib import Path

import pytest
from benchmarks.gateway import run
from benchmarks.gateway.cores import TooFewCores, choose
from benchmarks.gateway.peers import PEERS
from benchmarks.gateway.rounds import Plan
from benchmarks.gateway.soak import soak
from benchmarks.gateway.subjects import GATEWAY, STEPS, TWO_WORKERS, TWO_WORKERS_TWICE, Wanted

TINY = Plan(
    rounds=1,
    plain_seconds=0.2,
    connections=4,
    steady_requests_per_second=100.0,
    stream_seconds=0.3,
    streams=4,
    chunks=5,
    chunk_milliseconds=10.0,
)
NGINX = PEERS[:1]


@pytest.fixture(autouse=True)
def _two_cores() -> None:
    try:
        choose()
    except TooFewCores as why:
        pytest.skip(str(why))


def test_a_run_measures_the_gateway_its_parts_and_whichever_peer_is_there(tmp_path: Path) -> None:
    found = run.measure(Wanted(peers=NGINX), TINY, tmp_path, note=print)

    assert {GATEWAY, TWO_WORKERS, TWO_WORKERS_TWICE, *STEPS} <= set(found["subjects"])
    assert ("nginx" in found["subjects"]) is (NGINX[0].program() is not None)
    assert ("nginx" in found["absent"]) is (NGINX[0].program() is None)
    assert [step["step"] for step in found["steps"]] == list(STEPS)
    for name, subject in found["subjects"].items():
        assert subject["plain"]["cpu_us_per_request"] > 0, name
        assert subject["plain"]["requests_per_second"] > 0, name
    ours = found["subjects"][GATEWAY]
    assert ours["steady"]["requests_per_second"] > 0
    assert ours["streams"]["cpu_us_per_chunk"] > 0
    assert ours["streams"]["ttft_p99_ms"] >= ours["streams"]["ttft_p50_ms"] > 0
    assert (
        ours["plain"]["valkey_cpu_us_per_request"]
        > found["subjects"]["relay"]["plain"]["valkey_cpu_us_per_request"]
    )
    # Nobody was there to compare with.
    assert found["targets"][0]["value"] is found["targets"][0]["met"] is None


def test_a_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    found = soak(3.0, 60.0, tmp_path, note=print)

    assert found["left_behind"] == []
    assert set(found["visits"]) == {"plain", "stream", "hang_up"}
    assert found["posted"] >= found["visits"]["plain"] + found["visits"]["stream"]
    assert found["rss_max_mib"] > found["pss_max_mib"] > 0
