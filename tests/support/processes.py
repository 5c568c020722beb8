"""Ending what a test has started, whatever became of it."""

import signal
import subprocess

STOP_TIMEOUT_SECONDS = 20


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals = signal.SIGTERM) -> int:
    """Asks the process to stop, makes it stop if it doesn't, and reaps it."""
    process.send_signal(stop_signal)
    try:
        return process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(STOP_TIMEOUT_SECONDS)
