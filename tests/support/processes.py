"""Ending what a test has started, whatever became of it."""

import signal
import subprocess

import psutil

STOP_TIMEOUT_SECONDS = 20


def started_by(pid: int, title: str = "") -> list[psutil.Process]:
    """Living processes that it started, directly or not, whose title holds this."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if title in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals = signal.SIGTERM) -> int:
    """Asks the process to stop, makes it stop if it doesn't, and reaps it."""
    process.send_signal(stop_signal)
    try:
        return process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(STOP_TIMEOUT_SECONDS)
