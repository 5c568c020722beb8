"""Knowing a process again after whoever started it has gone, and ending it with all that it started.

A record holds the pid together with the moment the kernel started that process, so that a pid which was given
to a stranger since is never mistaken for ours. Everything we start also carries two marks in its environment,
which its children inherit: by them we find what a killed program has left behind (Ray starts a dozen
processes, each in a session of its own), and a program whose start we were killed over.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from headrace_platform.local.state import State

LINUX = sys.platform == "linux"

STACK_MARK = "HEADRACE_STACK"
PROGRAM_MARK = "HEADRACE_PROGRAM"

# SIGKILL can't be refused, only be waited for while the kernel writes a process's pages.
KILL_TIMEOUT_SECONDS = 10


# A detached child outlives us, and its Popen must be kept: being collected while the child runs is, rightly in
# any other program, a warning.
_detached: list[subprocess.Popen[bytes]] = []


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    identity: str
    """What tells this process from a later one with the same pid."""
    started_at: float
    """Seconds since the Unix epoch."""

    def alive(self) -> bool:
        return identity(self.pid) == self.identity


def marks(state: State, program: str) -> dict[str, str]:
    return {STACK_MARK: str(state.root), PROGRAM_MARK: program}


def record_file(state: State, program: str) -> Path:
    return state.root / "processes" / f"{program}.json"


def recorded(state: State, program: str) -> ProcessRecord | None:
    file = record_file(state, program)
    return msgspec.json.decode(file.read_bytes(), type=ProcessRecord) if file.exists() else None


def running(state: State, program: str) -> ProcessRecord | None:
    record = recorded(state, program)
    return record if record is not None and record.alive() else None


def keep(state: State, program: str, process: subprocess.Popen[bytes]) -> ProcessRecord:
    """Records a process that was just started, and lets go of it."""
    _detached.append(process)
    # A process that has ended already gets a record that no living process answers to.
    record = ProcessRecord(pid=process.pid, identity=identity(process.pid) or "ended", started_at=time.time())
    state.replace(record_file(state, program), msgspec.json.encode(record))
    return record


def reap() -> None:
    """Takes leave of detached children that have ended, where we are still their parent."""
    _detached[:] = [process for process in _detached if process.poll() is None]


def forget(state: State, program: str) -> None:
    record_file(state, program).unlink(missing_ok=True)


def identity(pid: int) -> str | None:
    """None when there is no such process, or only what a parent has not reaped yet."""
    try:
        if LINUX:
            # The wall clock may be set while we run, so what psutil calls the creation time may move.
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if status[0] in "ZX":
                return None
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return f"{boot}:{status[19]}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except (psutil.Error, OSError):
        return None


def family(state: State, program: str | None = None) -> list[psutil.Process]:
    """Every living process that carries the stack's marks, of one program or of all."""
    wanted = {STACK_MARK: str(state.root)}
    if program is not None:
        wanted[PROGRAM_MARK] = program
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        try:
            environment = process.environ()
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's and so not ours
        if all(environment.get(name) == value for name, value in wanted.items()):
            found.append(process)
    return found


def stop(
    state: State, program: str, *, stop_signal: signal.Signals, grace_seconds: float, at_once: bool = False
) -> bool:
    """Ends a program and all that it started; whether it ended by itself within its grace.

    `at_once` kills without asking.
    """
    record = recorded(state, program)
    graceful = True
    if record is not None and record.alive() and not at_once:
        os.kill(record.pid, stop_signal)
        graceful = _gone([record], grace_seconds)
    kill(_with_group(record, family(state, program)))
    forget(state, program)
    return graceful


def kill_program(state: State, program: str) -> None:
    """Kills a program with all that it started, and leaves its record, as a crash would."""
    kill(_with_group(recorded(state, program), family(state, program)))


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kills them all at once, so that none sees another die and acts on it."""
    victims = [
        ProcessRecord(pid=process.pid, identity=known, started_at=0)
        for process in processes
        if (known := identity(process.pid))
    ]
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    _gone(victims, KILL_TIMEOUT_SECONDS)


def _with_group(record: ProcessRecord | None, marked: list[psutil.Process]) -> list[psutil.Process]:
    """The marked processes, and those of the program's group whose marks can't be read any more.

    Postgres writes its title over its environment.
    """
    if record is None:
        return marked
    # No new process is given a number that still names a group. So the group is the program's, unless the
    # number was free for a while and has gone to a stranger.
    if identity(record.pid) not in (None, record.identity):
        return marked
    known = {process.pid for process in marked}
    for process in psutil.process_iter():
        try:
            in_group = os.getpgid(process.pid) == record.pid
        except OSError:
            continue  # gone meanwhile
        if in_group and process.pid not in known:
            marked.append(process)
    return marked


def _gone(records: list[ProcessRecord], timeout_seconds: float) -> bool:
    """Waits until all have ended. Not until they are reaped, for which their parent may take its time."""
    until = time.monotonic() + timeout_seconds
    while any(record.alive() for record in records):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
