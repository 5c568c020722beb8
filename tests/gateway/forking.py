"""A child that is killed in the midst of its work."""

import os
import signal
from collections.abc import Callable


def start(work: Callable[[], None]) -> int:
    """Forks; the child never returns into the test."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
