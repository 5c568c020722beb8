"""One of our own programs: a Python module run by the interpreter of its environment, healthy by HTTP."""

import http.client
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# A healthy program on the same machine answers at once; a busy one is asked again.
PROBE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRoute:
    host: str
    port: int
    path: str

    def answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PROBE_TIMEOUT_SECONDS)
        try:
            connection.request("GET", self.path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonModule:
    python: Path
    arguments: tuple[str, ...]
    """The module and what follows it: nothing secret, every user of the machine can read it."""
    settings: Mapping[str, str] = field(repr=False)
    """Environment variables of the program's prefix; secrets are among them."""
    prefix: str
    folder: Path
    health: HealthRoute | None
    """None for a program that does its work and ends."""
    marks: Mapping[str, str]

    def start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: what lies in the working folder must not be importable.
            [self.python, "-P", "-m", *self.arguments],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def is_ready(self) -> bool:
        return self.health is not None and self.health.answers()

    def _environment(self) -> dict[str, str]:
        """The caller's environment without what is meant for other programs.

        Settings of the program's own prefix pass through, so that any of them can be tried on this machine.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADRACE_", "PG", "PYTHON", "VIRTUAL_ENV"))
            or name.startswith(self.prefix)
        }
        return {**inherited, "PYTHONUNBUFFERED": "1", **self.settings, **self.marks}
