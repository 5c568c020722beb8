"""One program of the stack under test, which may be killed, stopped and started again at any moment."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

POLL_SECONDS = 0.05
READY_SECONDS_MAX = 60.0


class NeverReady(AssertionError):
    """A program did not come up in time: the run can't say anything about what follows."""


class Member:
    def __init__(
        self,
        name: str,
        *,
        launch: Callable[[IO[bytes]], "subprocess.Popen[bytes]"],
        is_ready: Callable[[], bool],
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        self.hands_on = asyncio.Lock()
        """Held by the one fault that is at it."""
        self.exit_statuses: list[int] = []
        self._launch = launch
        self._is_ready = is_ready
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Forks, so call it from the main thread."""
        assert not self.running, self.name
        with self.log.open("ab") as log:
            self._process = self._launch(log)

    async def ready(self, seconds: float = READY_SECONDS_MAX) -> None:
        """Starts it again as often as it ends, as whatever looks after programs does."""
        until = time.monotonic() + seconds
        while True:
            if not self.running:
                self.start()
            if await asyncio.to_thread(self._is_ready):
                return
            if time.monotonic() > until:
                raise NeverReady(f"{self.name}: not within {seconds:.0f} s, see {self.log}")
            await asyncio.sleep(POLL_SECONDS)

    async def kill(self) -> None:
        self._send(signal.SIGKILL)
        await self._gone()

    def stop(self) -> None:
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    async def end(self) -> int:
        """As a deploy ends it: asked, waited for, and killed when that was no use."""
        assert self._process is not None, self.name
        self.go_on()
        if self.running:
            self._process.send_signal(self._stop_signal)
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self._gone()
        except TimeoutError:
            await self.kill()
        status: int = self._process.returncode
        self.exit_statuses.append(status)
        return status

    def _send(self, number: signal.Signals) -> None:
        for process in self._tree():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def _tree(self) -> Iterator[psutil.Process]:
        """The parent first: a stopped one starts no more children, a killed one neither."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            parent = psutil.Process(self._process.pid)
            children = parent.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        yield parent
        yield from children

    async def _gone(self) -> None:
        while self.running:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)
