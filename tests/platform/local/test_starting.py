"""Starting programs: in order, only what is missing, and all or nothing."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_platform.local import processes
from headrace_platform.local.problems import PortTaken, ProgramDied, ProgramSlow
from headrace_platform.local.programs import Program
from headrace_platform.local.progress import Phase, Silent, Step
from headrace_platform.local.starting import Starting
from headrace_platform.local.state import State
from tests.support.patience import wait_until
from tests.support.programs import DYING, WITH_STRAY_CHILD, TinyServer, is_marked, tiny


class Witness(Silent):
    """Remembers in which order programs became ready, and may do something when one does."""

    def __init__(self, at: dict[str, Callable[[], None]] | None = None) -> None:
        self.ready: list[str] = []
        self.phases: dict[str, Phase] = {}
        self._at = at or {}

    def show(self, steps: object) -> None:
        assert isinstance(steps, dict)
        for name, step in steps.items():
            assert isinstance(step, Step)
            self.phases[name] = step.phase
            if step.phase in (Phase.READY, Phase.RUNNING) and name not in self.ready:
                self.ready.append(name)
                self._at.pop(name, lambda: None)()


def start(state: State, *programs: Program, witness: Witness | None = None) -> Witness:
    witness = witness or Witness()
    Starting(state, list(programs), witness).run()
    return witness


def pids(program: Program) -> list[int]:
    assert isinstance(program.server, TinyServer)
    return program.server.started


def test_a_program_starts_when_those_before_it_are_ready(state: State) -> None:
    writes = "open('../ledger/ready', 'w')"
    last = tiny(state, "gateway", after=("ledger",))
    first = tiny(state, "ledger", ready_file="ready")
    between = tiny(state, "migrations", writes, once=True)

    witness = start(state, last, first, between)

    assert witness.ready[-1] == "gateway"
    assert pids(first)


def test_what_a_program_prepares_is_there_before_the_next_one_starts(state: State) -> None:
    made = state.root / "database"
    first = tiny(state, "postgres")
    prepared = Program(name="postgres", server=first.server, prepare=made.touch)
    second = tiny(state, "billing", "import os, sys; sys.exit(not os.path.exists('../database'))", once=True)
    start(state, prepared, Program(name="billing", server=second.server, once=True, after=("postgres",)))


def test_a_second_start_begins_only_what_is_missing(state: State) -> None:
    stays, dies = tiny(state, "postgres"), tiny(state, "gateway")
    start(state, stays, dies)
    processes.kill_program(state, "gateway")

    witness = start(state, stays, dies)

    assert len(pids(stays)) == 1
    assert len(pids(dies)) == 2
    assert witness.phases == {"postgres": Phase.RUNNING, "gateway": Phase.READY}


def test_work_that_is_done_once_is_repeated_only_for_those_who_need_it(state: State) -> None:
    migrations = tiny(state, "migrations", "pass", once=True)
    billing = tiny(state, "billing", after=("migrations",))
    start(state, migrations, billing)
    start(state, migrations, billing)
    assert len(pids(migrations)) == 1

    processes.kill_program(state, "billing")
    start(state, migrations, billing)
    assert len(pids(migrations)) == 2


def test_a_program_that_dies_is_named_with_its_last_words_and_the_rest_is_stopped(state: State) -> None:
    healthy = tiny(state, "postgres")
    with pytest.raises(ProgramDied, match=r"billing ended \(status 1\)") as died:
        start(state, healthy, tiny(state, "billing", DYING, ready_file="never", after=("postgres",)))

    assert "the disk of the moon is full" in died.value.log_tail
    assert processes.identity(pids(healthy)[0]) is None
    assert processes.family(state) == []


def test_what_ran_before_a_failed_start_goes_on_running(state: State) -> None:
    before = tiny(state, "postgres")
    start(state, before)
    with pytest.raises(ProgramDied):
        start(state, before, tiny(state, "billing", DYING, ready_file="never"))
    assert processes.running(state, "postgres")


def test_a_ready_program_that_dies_while_others_start_fails_the_start(state: State) -> None:
    victim = tiny(state, "valkey")
    waiting = tiny(state, "engine", ready_file="never")
    witness = Witness({"valkey": lambda: os.kill(pids(victim)[0], signal.SIGKILL)})
    with pytest.raises(ProgramDied, match=r"valkey ended \(signal 9\)"):
        start(state, victim, waiting, witness=witness)


def test_a_program_that_never_gets_ready_is_given_up(state: State) -> None:
    slow = tiny(state, "engine", ready_file="never", ready_timeout_seconds=0.3)
    with pytest.raises(ProgramSlow, match="engine"):
        start(state, slow)
    assert processes.family(state) == []


def test_an_interrupted_start_takes_back_what_it_began(state: State) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(
            state,
            tiny(state, "postgres"),
            tiny(state, "engine", ready_file="never"),
            witness=Witness({"postgres": interrupt}),
        )
    assert processes.family(state) == []


def test_a_taken_port_is_named_with_its_holder(state: State, unused_port: Callable[[], int]) -> None:
    port = unused_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(PortTaken, match=rf"Port {port}.*gateway.*\(pid {os.getpid()}\)") as taken,
    ):
        start(state, tiny(state, "gateway", port=port))
    assert "--gateway-port" in taken.value.next_step


def test_what_a_killed_program_left_behind_is_gone_before_its_next_start(state: State) -> None:
    engine = tiny(state, "engine", WITH_STRAY_CHILD, ready_file="stray")
    start(state, engine)
    note = state.root / "engine" / "stray"
    stray = stray_pid(note)
    # The program alone, as the kernel would.
    os.kill(pids(engine)[0], signal.SIGKILL)
    os.waitid(os.P_PID, pids(engine)[0], os.WEXITED | os.WNOWAIT)

    start(state, engine)
    assert processes.identity(stray) is None


def stray_pid(note: Path) -> int:
    wait_until(note.read_text)  # made, and not yet written
    pid = int(note.read_text())
    wait_until(lambda: is_marked(pid))
    note.unlink()
    return pid
