"""One real stack for all of these tests: the demo starts it, and leaves it up for the others."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from headrace_contracts.endpoints import Endpoints
from headrace_platform.demo.customer import Customer
from headrace_platform.demo.result import DemoResult
from headrace_platform.local.stack import Stack

HEADRACE = Path(sys.prefix) / "bin" / "headrace"
DEMO_TIMEOUT_SECONDS = 420


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What `headrace demo --keep` did, and the stack that it left."""

    exit_status: int
    output: str
    stack: Stack

    @property
    def endpoints(self) -> Endpoints:
        return self.stack.endpoints()

    @property
    def result(self) -> DemoResult:
        return msgspec.json.decode((self.stack.state / "demo.json").read_bytes(), type=DemoResult)

    @property
    def customer(self) -> Customer:
        assert self.endpoints.api_key is not None
        return Customer(self.endpoints.gateway_url, self.endpoints.api_key, self.endpoints.model)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    stack = Stack(tmp_path_factory.mktemp("e2e") / "state")
    try:
        run = subprocess.run(
            [HEADRACE, "demo", "--keep", "--state", stack.state],
            capture_output=True,
            text=True,
            timeout=DEMO_TIMEOUT_SECONDS,
            check=False,
        )
        yield DemoRun(run.returncode, run.stdout + run.stderr, stack)
    finally:
        stack.stop()
        shutil.rmtree(stack.state, ignore_errors=True)
