"""Small real programs to start, stop and kill where the services themselves would tell a test nothing more."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from headrace_platform.local.processes import STACK_MARK, marks
from headrace_platform.local.programs import Program
from headrace_platform.local.state import State

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w'); time.sleep(600)"
)
DYING = "import sys; sys.exit('the disk of the moon is full')"
# What Ray does: a child in a session of its own, which its parent's end does not concern.
WITH_STRAY_CHILD = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
    "open('stray', 'w').write(str(child.pid)); time.sleep(600)"
)


def is_marked(pid: int) -> bool:
    """Whether it has its environment yet, which a process has not amid its exec, and no more when it has ended."""
    process = psutil.Process(pid)
    return process.status() == psutil.STATUS_ZOMBIE or STACK_MARK in process.environ()


@dataclass(frozen=True)
class TinyServer:
    """Runs `code`; ready as soon as the file `ready_file` is there, or at once without one."""

    code: str
    folder: Path
    marks: dict[str, str]
    ready_file: str | None = None
    started: list[int] = field(default_factory=list)
    """The pids of all starts."""

    def start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", self.code],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", **self.marks},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.started.append(process.pid)
        return process

    def is_ready(self) -> bool:
        return self.ready_file is None or (self.folder / self.ready_file).exists()


def tiny(
    state: State,
    name: str,
    code: str = SLEEP,
    *,
    after: tuple[str, ...] = (),
    once: bool = False,
    port: int | None = None,
    ready_file: str | None = None,
    ready_timeout_seconds: float = 30,
) -> Program:
    return Program(
        name=name,
        server=TinyServer(code, state.folder(name), marks(state, name), ready_file),
        after=after,
        once=once,
        port=port,
        ready_timeout_seconds=ready_timeout_seconds,
    )
