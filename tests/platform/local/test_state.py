"""The state folder: closed to others, and the same again at the next start."""

import os
import stat
from pathlib import Path

import pytest

from headrace_platform.local.layout import Wishes, decide
from headrace_platform.local.problems import Busy, StateUnusable
from headrace_platform.local.state import State


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def wide_open() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("wide_open")
def test_only_the_owner_may_enter_and_read(tmp_path: Path) -> None:
    state = State.at(tmp_path / "state")
    state.create()
    state.secrets()
    state.keep_layout(decide(None, Wishes(), alive=set()))

    folders = [state.root, *(path for path in state.root.iterdir() if path.is_dir())]
    assert {mode(folder) for folder in folders} == {0o700}
    assert mode(state.root / "secrets.json") == 0o600


def test_secrets_are_made_once_and_differ_from_stack_to_stack(tmp_path: Path) -> None:
    one, other = State.at(tmp_path / "one"), State.at(tmp_path / "other")
    one.create()
    other.create()
    assert one.secrets() == one.secrets()
    assert one.secrets() != other.secrets()
    assert len(bytes.fromhex(one.secrets().signing_key)) == 32


def test_secrets_do_not_show_when_printed(state: State) -> None:
    assert state.secrets().admin_token not in f"{state.secrets()!r}{state.secrets()}"


def test_a_folder_that_someone_loosened_is_closed_again(state: State) -> None:
    state.keep_layout(decide(None, Wishes(), alive=set()))
    state.root.chmod(0o755)
    state.create()
    assert mode(state.root) == 0o700


def test_a_folder_of_something_else_is_not_taken_over(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StateUnusable):
        State.at(tmp_path).create()
    assert mode(tmp_path) == 0o755


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateUnusable):
        State.at(tmp_path / "state").create()


def test_two_can_not_work_on_it_at_once(state: State) -> None:
    with state.lock(), pytest.raises(Busy), state.lock():
        pass
    with state.lock():
        pass
