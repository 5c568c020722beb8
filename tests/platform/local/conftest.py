"""A state folder of its own for each test, with nothing left running in it afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_platform.local import processes
from headrace_platform.local.state import State


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.at(tmp_path / "state")
    state.create()
    yield state
    processes.kill(processes.family(state))
    processes.reap()
