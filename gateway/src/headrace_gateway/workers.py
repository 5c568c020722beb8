"""Several worker processes that share one port: starts them, passes signals on, starts anew what died.

What must stay true: a worker never outlives this process; each is told to stop once and then waited for.
"""

import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from types import FrameType

import structlog

from headrace_gateway.metrics.link import Workers

log = structlog.get_logger()

RESTART_PAUSE_SECONDS = 1.0
"""A worker that can't start must not spin."""

# One that was still starting has no handler for the signal yet, and nothing to finish.
CLEAN = {0, -signal.SIGTERM}

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Makes the kernel send SIGTERM to this process when its parent ends, however that ends."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It ended before the kernel knew.
        os.kill(os.getpid(), signal.SIGTERM)


def run_workers(command: Sequence[str], count: int, *, metrics: Workers) -> int:
    """Runs until SIGTERM or SIGINT; the exit status, 1 when a worker did not end as it should."""
    workers = {process.pid: process for process in (_start(command, metrics) for _ in range(count))}
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        for process in workers.values():
            process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    statuses: list[int] = []
    while workers:
        pid, status = os.wait()
        process = workers.pop(pid, None)
        if process is None:
            continue
        metrics.died(pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        if stopping.is_set():
            statuses.append(process.returncode)
            continue
        log.error("worker_died", pid=pid, status=process.returncode)
        time.sleep(RESTART_PAUSE_SECONDS)
        if not stopping.is_set():
            replacement = _start(command, metrics)
            workers[replacement.pid] = replacement
        if stopping.is_set():
            stop(signal.SIGTERM, None)
    return 0 if CLEAN.issuperset(statuses) else 1


def _start(command: Sequence[str], metrics: Workers) -> subprocess.Popen[bytes]:
    """The worker's last argument is the descriptor at which it is asked for its metrics."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([*command, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    metrics.joined(process.pid, ours)
    log.info("worker_started", pid=process.pid)
    return process
