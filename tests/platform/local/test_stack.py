"""The whole stack but the engine, real: services, databases, ports, and what becomes of them.

The gateway is given an upstream at which nobody listens: these tests send no request to a model.
"""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2
import psutil
import psycopg
import pytest
import redis

from headrace_contracts.deployments import decode_table
from headrace_contracts.endpoints import Endpoints
from headrace_platform.local import ports, processes
from headrace_platform.local.environments import ENGINE_PYTHON_VARIABLE
from headrace_platform.local.first_key import first_key
from headrace_platform.local.layout import Wishes
from headrace_platform.local.stack import Stack
from headrace_platform.local.state import State, Upstream
from tests.support.patience import wait_until


@pytest.fixture(scope="module")
def wishes(unused_port: Callable[[], int]) -> Wishes:
    # Asked for, because another stack of this machine may be using the usual ones.
    return Wishes(
        gateway_port=unused_port(),
        billing_port=unused_port(),
        upstream=Upstream(url=f"http://127.0.0.1:{unused_port()}", model="glm-tiny"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stack") / ".headrace"
    yield folder
    if folder.exists():
        Stack(folder).stop()


@pytest.fixture
def stack(folder: Path, wishes: Wishes) -> Stack:
    """A stack that runs, wholly; whatever the last test did to it."""
    stack = Stack(folder)
    stack.start(wishes)
    return stack


def pids(stack: Stack) -> dict[str, int | None]:
    return {program.name: program.pid for program in stack.status().programs}


def conditions(stack: Stack) -> dict[str, str]:
    return {program.name: program.condition for program in stack.status().programs}


def family(stack: Stack) -> list[psutil.Process]:
    """All that runs of the stack, down to the last backend of Postgres."""
    marked = processes.family(State.at(stack.folder))
    return [*marked, *(child for process in marked for child in process.children(recursive=True))]


Seen = TypeVar("Seen")


def seen_of(members: list[psutil.Process], look: Callable[[psutil.Process], Seen]) -> list[Seen]:
    """Of all that are still there: Postgres' backends come and go."""
    found = []
    for member in members:
        with suppress(psutil.NoSuchProcess):
            found.append(look(member))
    return found


def test_all_of_it_is_ready_and_says_so(stack: Stack) -> None:
    status = stack.status()
    assert status.ready
    assert [program.name for program in status.programs] == [
        "postgres",
        "valkey",
        "billing-api",
        "billing-worker",
        "gateway",
    ]
    [deployment] = decode_table(State.at(stack.folder).deployments_file.read_bytes()).deployments
    assert not deployment.witnessed, "the engine is somebody else's"
    endpoints = stack.endpoints()
    # A heartbeat that Valkey or Postgres was late for is made good by the next.
    wait_until(partial(says_that_it_is_ready, endpoints.gateway_url))
    wait_until(partial(says_that_it_is_ready, endpoints.billing_url))


def says_that_it_is_ready(url: str) -> bool:
    return httpx2.get(f"{url}/readyz", timeout=20).status_code == 200


def test_a_second_start_changes_nothing(stack: Stack, wishes: Wishes) -> None:
    before, endpoints = pids(stack), stack.endpoints()
    assert stack.start(wishes) == endpoints
    assert pids(stack) == before


def test_a_key_made_by_billing_is_known_to_the_gateway(stack: Stack) -> None:
    endpoints = stack.endpoints()
    listed = httpx2.get(
        f"{endpoints.gateway_url}/v1/models",
        headers={"authorization": f"Bearer {first_key(endpoints)}"},
    )
    assert [model["id"] for model in listed.json()["data"]] == [endpoints.model]


def test_a_killed_gateway_comes_back_at_the_same_place_and_nothing_else_is_touched(stack: Stack) -> None:
    before, endpoints = pids(stack), stack.endpoints()
    stack.kill_gateway()
    assert conditions(stack)["gateway"] == "dead"

    stack.start()
    after = pids(stack)
    assert stack.endpoints() == endpoints
    assert after.pop("gateway") != before.pop("gateway")
    assert after == before


def test_after_a_kill_of_everything_nothing_that_was_confirmed_is_lost(stack: Stack) -> None:
    endpoints = stack.endpoints()
    write_rows(endpoints)
    members = family(stack)
    for process in members:
        with suppress(psutil.NoSuchProcess):  # Postgres' children go with it
            process.send_signal(signal.SIGKILL)
    # A process keeps its port until the system has cleared it away.
    psutil.wait_procs(members, timeout=10)

    assert stack.start() == endpoints, "the same ports and secrets"
    with psycopg.connect(endpoints.database_url) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (1,)
        connection.execute("drop table kept")
    with redis.Redis.from_url(endpoints.valkey_url) as client:
        assert client.get("kept") == b"1"


def write_rows(endpoints: Endpoints) -> None:
    with psycopg.connect(endpoints.database_url) as connection:
        connection.execute("create table kept as select 1 as row")
    with redis.Redis.from_url(endpoints.valkey_url, socket_timeout=60) as client:
        client.set("kept", "1")
        client.execute_command("WAITAOF", 1, 0, 50_000)


def test_stopping_leaves_no_process_and_no_port_behind_but_all_that_was_written(
    stack: Stack, wishes: Wishes
) -> None:
    members, endpoints = family(stack), stack.endpoints()
    ended: dict[str, bool] = {}
    stack.stop(tell=ended.__setitem__)

    assert ended == dict.fromkeys(["gateway", "billing-worker", "billing-api", "valkey", "postgres"], True), (
        "each by itself"
    )
    assert next(iter(ended)) == "gateway", "what it has metered last still reaches billing"
    assert not [member for member in members if processes.identity(member.pid)]
    assert set(conditions(stack).values()) == {"stopped"}
    assert ports.is_free(httpx2.URL(endpoints.gateway_url).port or 0)
    assert stack.start(wishes) == endpoints


def test_no_secret_stands_on_a_command_line(stack: Stack) -> None:
    state = State.at(stack.folder)
    secrets = [value for value in vars_of(state) if len(value) >= 16]
    lines = seen_of(family(stack), lambda process: " ".join(process.cmdline()))
    assert len(lines) >= 5
    assert not [secret for secret in secrets for line in lines if secret in line]


def test_no_secret_stands_in_a_log(stack: Stack) -> None:
    state = State.at(stack.folder)
    said = "".join(log.read_text(errors="replace") for log in stack.logs().values() if log.exists())
    assert not [secret for secret in vars_of(state) if secret in said]


def vars_of(state: State) -> list[str]:
    secrets = state.secrets()
    return [str(getattr(secrets, name)) for name in secrets.__struct_fields__]


def test_everything_listens_on_the_loopback_address_alone(stack: Stack) -> None:
    listening = {
        connection.laddr.ip
        for connections in seen_of(family(stack), psutil.Process.net_connections)
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_only_the_owner_may_enter_the_state(stack: Stack) -> None:
    assert stat.S_IMODE(stack.state.stat().st_mode) == 0o700
    for name in ("secrets.json", "endpoints.json"):
        assert stat.S_IMODE((stack.state / name).stat().st_mode) == 0o600
    assert stack.state.stat().st_uid == os.geteuid()


@pytest.fixture
def engine_that_never_gets_ready(tmp_path: Path) -> Path:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    return python


@pytest.fixture
def waiting_for_its_engine(
    engine_that_never_gets_ready: Path, tmp_path: Path, unused_port: Callable[[], int]
) -> Iterator[tuple[subprocess.Popen[str], Stack]]:
    """`headrace up` in a process of its own, with some of it started and the engine not ready."""
    stack = Stack(tmp_path / "state")
    command = [
        "up",
        "--state",
        stack.folder,
        "--gateway-port",
        unused_port(),
        "--billing-port",
        unused_port(),
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "headrace_platform.local", *map(str, command)],
        env={**os.environ, ENGINE_PYTHON_VARIABLE: str(engine_that_never_gets_ready)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stdout
        for line in up.stdout:
            if line.startswith("postgres") and "ready" in line:
                break
        try:
            yield up, stack
        finally:
            up.kill()
            stack.stop()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_start_that_is_interrupted_takes_back_what_it_began(
    waiting_for_its_engine: tuple[subprocess.Popen[str], Stack], sent: signal.Signals, status: int
) -> None:
    up, stack = waiting_for_its_engine
    assert family(stack)
    up.send_signal(sent)
    assert up.wait(60) == status
    assert family(stack) == []


def test_what_a_killed_start_left_behind_is_ended_by_down(
    waiting_for_its_engine: tuple[subprocess.Popen[str], Stack],
) -> None:
    up, stack = waiting_for_its_engine
    up.kill()
    up.wait()
    assert family(stack)
    stack.stop()
    assert family(stack) == []
