"""The engine as it runs anywhere: Ray Serve and vLLM with the tiny model, started once for all tests that need it.

Such tests are marked `engine`. What the engine records goes to a billing that only remembers it.
"""

import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import psutil

from headrace_contracts.engine import EngineRecord, decode_record
from headrace_platform.local.environments import engine_python
from headrace_platform.local.ports import unused_port
from headrace_platform.serving.spool import segments
from tests.support.engine_records import TOKEN, EngineRecords, receiving
from tests.support.processes import started_by

READY_TIMEOUT_SECONDS = 240
STOP_TIMEOUT_SECONDS = 60
MODEL = "glm-tiny"
CORE = "VLLM::EngineCore"
"""The title of vLLM's own processes, one a replica."""


class Ready(msgspec.Struct):
    """The line that the engine prints when it can answer."""

    ready: bool
    url: str
    model: str
    pid: int


@dataclass(frozen=True)
class Engine:
    url: str
    model: str
    pid: int
    state_dir: Path
    billing: EngineRecords
    """What was shipped; it listens where the engine was told that billing is."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def records_dir(self) -> Path:
        return self.state_dir / "records"

    def attempt(self) -> str:
        """An attempt's id as the gateway makes them, for `X-Request-Id`."""
        return f"{uuid.uuid4()}.{next(self._numbers)}"

    def spooled(self, attempt: str) -> list[EngineRecord]:
        """What the spool holds of an attempt, in order. A dead replica's spool goes when it was shipped."""
        return [
            record
            for segment in segments(self.records_dir)
            for line in segment.path.read_bytes().splitlines()
            if (record := decode_record(line)).attempt == attempt
        ]

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Living processes that it started, directly or not, whose title holds this."""
        return started_by(self.pid, title)

    def replicas(self) -> list[psutil.Process]:
        return self.processes("ray::ServeReplica")

    def cores(self) -> list[psutil.Process]:
        """vLLM's own processes, one a replica."""
        return self.processes(CORE)


@contextmanager
def running_engine(
    state_dir: Path,
    settings: Mapping[str, str] | None = None,
    *,
    program: Callable[[EngineRecords], Sequence[str]] | None = None,
) -> Iterator[Engine]:
    """An engine until the context ends, with `HEADRACE_ENGINE_<name>` from `settings`.

    `program` is asked for what the engine's Python runs, once it is known where records go.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with receiving() as billing, (state_dir / "engine.log").open("ab") as log:
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("HEADRACE_", "RAY_"))
            },
            "PYTHONUNBUFFERED": "1",
            **{
                f"HEADRACE_ENGINE_{name}": value
                for name, value in {
                    "MODEL": MODEL,
                    "PORT": str(unused_port()),
                    "STATE_DIR": str(state_dir),
                    "RECORDS_URL": billing.url,
                    "INGEST_TOKEN": TOKEN,
                    **(settings or {}),
                }.items()
            },
        }
        with subprocess.Popen(
            [engine_python(), "-P", *(program(billing) if program else ("-m", "headrace_platform.serving"))],
            env=environment,
            cwd=state_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process:
            try:
                ready = wait_until_ready(process, state_dir / "engine.log")
                yield Engine(
                    url=ready.url, model=ready.model, pid=process.pid, state_dir=state_dir, billing=billing
                )
            finally:
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> Ready:
    assert process.stdout is not None
    # Ends the reading below where the engine never says anything.
    late = threading.Timer(READY_TIMEOUT_SECONDS, process.kill)
    late.start()
    try:
        for line in process.stdout:
            if line.startswith(b'{"ready"'):
                return msgspec.json.decode(line, type=Ready)
    finally:
        late.cancel()
    tail = log.read_text(errors="replace")[-4000:]
    raise AssertionError(f"the engine did not come up in {READY_TIMEOUT_SECONDS} s:\n{tail}")
