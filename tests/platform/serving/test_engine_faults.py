"""What happens when parts of the engine die: it fails fast, comes back, and its account stays whole.

Each leaves an engine behind that answers again, for the tests that share it.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil
import pytest

from headrace_contracts.engine import EngineEnding
from tests.platform.serving.chat import chat, chat_body, chunks, posted
from tests.support.engine import Engine, running_engine
from tests.support.patience import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]

# From the death of the engine to the last request that fails for it.
ERRORS_SECONDS_MAX = 3.0
RECOVERY_SECONDS_MAX = 180
STOP_SECONDS_MAX = 50
ORPHANS_SECONDS_MAX = 10
# These look for their dead head for a minute before they go. What they listen on is theirs alone.
RAYS_AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}


def the_one(living: Callable[[], Sequence[psutil.Process]]) -> psutil.Process:
    """The only process of its kind; the test before may have killed its predecessor a moment ago."""
    found: list[psutil.Process] = []

    def one_is_there() -> bool:
        found[:] = living()
        return len(found) == 1

    wait_until(one_is_there, seconds=RECOVERY_SECONDS_MAX)
    return found[0]


def test_a_dead_engine_fails_its_requests_at_once_and_is_replaced(engine: Engine) -> None:
    core, replica = the_one(engine.cores), the_one(engine.replicas)
    running = engine.attempt()
    endings: list[str] = []
    first_chunk = threading.Event()

    def stream() -> None:
        try:
            with posted(
                engine,
                "/v1/chat/completions",
                chat_body("Tell me a story", stream=True, max_tokens=3000, min_tokens=3000, ignore_eos=True),
                running,
            ) as response:
                for _ in chunks(response):
                    first_chunk.set()
            endings.append("ended")
        except (http.client.HTTPException, OSError):
            endings.append("broken off")

    client = threading.Thread(target=stream)
    client.start()
    assert first_chunk.wait(30)

    core.kill()
    died = time.monotonic()
    client.join(ERRORS_SECONDS_MAX)
    assert not client.is_alive(), f"the stream of a dead engine went on for {ERRORS_SECONDS_MAX} s"

    statuses: Counter[int] = Counter()
    last_failure = died
    while time.monotonic() < died + RECOVERY_SECONDS_MAX:
        # The status alone: for a replica that goes meanwhile Serve answers itself, and not in JSON.
        with posted(engine, "/v1/chat/completions", chat_body("What is 1+1?", max_tokens=4)) as response:
            statuses[response.status] += 1
        if response.status == 200:
            break
        last_failure = time.monotonic()
        time.sleep(0.05)
    assert statuses[200] == 1, f"not back after {RECOVERY_SECONDS_MAX} s: {statuses}"
    assert last_failure - died <= ERRORS_SECONDS_MAX
    assert not replica.is_running()

    wait_until(lambda: engine.billing.ended(running))
    record = engine.billing.ended(running)
    assert record is not None
    assert record.ending is EngineEnding.FAILED
    assert record.output > 0


def test_a_killed_replica_s_records_reach_billing_by_its_successor(engine: Engine) -> None:
    core, replica = the_one(engine.cores), the_one(engine.replicas)
    running = engine.attempt()
    body = chat_body("Tell me a story", stream=True, max_tokens=3000, min_tokens=3000, ignore_eos=True)
    with posted(engine, "/v1/chat/completions", body, running) as response:
        next(chunks(response))
        replica.kill()
        with suppress(http.client.HTTPException, OSError):
            assert all("choices" in chunk for chunk in chunks(response))
    wait_until(lambda: chat(engine, "What is 1+1?", max_tokens=4)[0] == 200, seconds=RECOVERY_SECONDS_MAX)
    wait_until(lambda: running in engine.billing.records(), seconds=20)
    assert engine.billing.records()[running].ending is EngineEnding.STARTED
    assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow_engine
def test_a_clean_stop_leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_engine(tmp_path_factory.mktemp("stopped")) as stopped:
        ours = stopped.processes()
        assert len(ours) > 3
        psutil.Process(stopped.pid).terminate()
        assert left_of(ours, STOP_SECONDS_MAX) == []


@pytest.mark.slow_engine
def test_a_killed_engine_leaves_no_port_taken(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_engine(tmp_path_factory.mktemp("killed")) as killed:
        ours = killed.processes()
        assert len(ours) > 3
        psutil.Process(killed.pid).kill()
        assert set(left_of(ours, ORPHANS_SECONDS_MAX)) <= RAYS_AGENTS
        with pytest.raises(ConnectionRefusedError):
            chat(killed, "Hello")


def left_of(processes: list[psutil.Process], seconds: float) -> list[str]:
    _, left = psutil.wait_procs(processes, timeout=seconds)
    return [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE]
