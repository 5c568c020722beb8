"""Knowing processes again, and ending them with all that they started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from headrace_platform.local import processes
from headrace_platform.local.processes import ProcessRecord
from headrace_platform.local.python_module import PythonModule
from headrace_platform.local.state import State
from tests.support.patience import wait_until
from tests.support.processes import end
from tests.support.programs import SLEEP, STUBBORN, WITH_STRAY_CHILD, TinyServer, is_marked


def begin(state: State, name: str, code: str, *, until: str | None = None) -> subprocess.Popen[bytes]:
    server = TinyServer(code, state.folder(name), processes.marks(state, name), until)
    with state.log(name).open("ab") as log:
        process = server.start(log)
    processes.keep(state, name, process)
    wait_until(server.is_ready)
    wait_until(lambda: is_marked(process.pid))
    return process


def test_a_recorded_process_is_known_again(state: State) -> None:
    process = begin(state, "gateway", SLEEP)
    assert processes.running(state, "gateway")
    end(process)
    assert processes.running(state, "gateway") is None
    assert processes.recorded(state, "gateway") is not None, "that it died must still be told"


def test_a_pid_that_was_given_to_a_stranger_is_left_alone(state: State) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True) as stranger:
        old = ProcessRecord(pid=stranger.pid, identity="an earlier process", started_at=0)
        state.replace(processes.record_file(state, "gateway"), msgspec.json.encode(old))

        assert processes.running(state, "gateway") is None
        processes.stop(state, "gateway", stop_signal=signal.SIGTERM, grace_seconds=0)

        assert stranger.poll() is None, "a stranger was killed"
        end(stranger)


def test_a_process_that_nobody_has_reaped_yet_is_not_alive(state: State) -> None:
    process = begin(state, "gateway", "pass")
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert processes.running(state, "gateway") is None
    process.wait()


def test_a_program_that_ends_when_asked_is_not_killed(state: State) -> None:
    process = begin(state, "gateway", SLEEP)
    assert processes.stop(state, "gateway", stop_signal=signal.SIGTERM, grace_seconds=10)
    assert processes.identity(process.pid) is None
    assert processes.recorded(state, "gateway") is None


def test_a_program_that_does_not_listen_is_killed_after_its_grace(state: State) -> None:
    process = begin(state, "gateway", STUBBORN, until="deaf")
    assert not processes.stop(state, "gateway", stop_signal=signal.SIGTERM, grace_seconds=0.3)
    assert processes.identity(process.pid) is None


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_children_in_sessions_of_their_own_end_with_their_program(
    state: State, ending: signal.Signals
) -> None:
    process = begin(state, "engine", WITH_STRAY_CHILD, until="stray")
    note = state.root / "engine" / "stray"
    wait_until(note.read_text)
    stray = int(note.read_text())
    wait_until(lambda: is_marked(stray))
    assert os.getsid(stray) != os.getsid(process.pid)

    process.send_signal(ending)
    process.wait()
    assert processes.identity(stray)
    processes.stop(state, "engine", stop_signal=signal.SIGTERM, grace_seconds=10)
    assert processes.identity(stray) is None


def test_processes_of_another_stack_are_not_ours(state: State, tmp_path: Path) -> None:
    other = State.at(tmp_path / "other")
    other.create()
    process = begin(other, "gateway", SLEEP)
    assert processes.family(state) == []
    assert [found.pid for found in processes.family(other)] == [process.pid]
    end(process)


def test_secrets_reach_a_program_by_its_environment_and_not_by_its_command_line(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_BILLING_TOKEN", "of the shell")
    monkeypatch.setenv("HEADRACE_GATEWAY_TIMEOUT", "7")
    module = PythonModule(
        python=Path(sys.executable),
        arguments=("http.server", "--help"),
        prefix="HEADRACE_GATEWAY_",
        settings={"HEADRACE_GATEWAY_TOKEN": "correct-horse"},
        folder=state.folder("gateway"),
        health=None,
        marks=processes.marks(state, "gateway"),
    )
    with (state.root / "log").open("wb") as log:
        process = module.start(log)
    # It stops once it runs its program: before that it has no environment yet, and as a zombie none any more.
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    found = psutil.Process(process.pid)
    environment, command = found.environ(), found.cmdline()
    end(process, signal.SIGKILL)

    assert environment["HEADRACE_GATEWAY_TOKEN"] == "correct-horse"
    assert environment["HEADRACE_GATEWAY_TIMEOUT"] == "7", "a setting of its own passes through"
    assert "HEADRACE_BILLING_TOKEN" not in environment, "another program's secret does not"
    assert not any("correct-horse" in part for part in command)
    assert "correct-horse" not in repr(module)
