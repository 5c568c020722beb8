"""Starting a program and ending it, whatever becomes of the run."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from benchmarks.gateway import cores

from headrace_platform.local.ports import HOST
from headrace_platform.local.unprivileged import die_with_parent, in_child

READY_SECONDS_MAX = 60.0
END_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05

Program = subprocess.Popen[bytes]


class NeverReady(Exception):
    """A program did not come up; its log says why."""


@contextmanager
def started(
    launch: Callable[[IO[bytes]], Program],
    is_ready: Callable[[], bool],
    log: Path,
    *,
    ready_seconds: float = READY_SECONDS_MAX,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[Program]:
    with log.open("wb") as output:
        program = launch(output)
    try:
        _wait_until(is_ready, program, log, ready_seconds)
        yield program
    finally:
        _end(program, stop_signal)


def launching(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
) -> Callable[[IO[bytes]], Program]:
    """Nothing of the caller's environment but PATH, so that a run is the same wherever it is started."""

    def launch(log: IO[bytes]) -> Program:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "HOME": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=in_child(lambda: die_with_parent(signal.SIGKILL)),  # noqa: PLW1509 - the main thread forks
        )

    return launch


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait_until(is_ready: Callable[[], bool], program: Program, log: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_ready():
        if program.poll() is not None or time.monotonic() > until:
            tail = log.read_text(errors="replace")[-2000:]
            raise NeverReady(
                f"{program.args!r} was not ready within {seconds:.0f} s. Its log ends with:\n{tail}"
            )
        time.sleep(POLL_SECONDS)


def _end(program: Program, stop_signal: signal.Signals) -> None:
    """Children too: what a launcher of its own leaves behind would go on using the core."""
    family = list(cores.tree(program.pid))
    with suppress(ProcessLookupError):
        program.send_signal(stop_signal)
    try:
        program.wait(END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait(END_SECONDS_MAX)
    for process in family:
        with suppress(Exception):
            process.kill()
