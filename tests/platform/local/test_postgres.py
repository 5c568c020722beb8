"""The embedded Postgres, run for real: as root it becomes nobody, as anyone else it stays who it is."""

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from headrace_platform.local.postgres import DATABASE, STOP_SIGNAL, Postgres, PostgresFailed
from headrace_platform.local.processes import identity
from headrace_platform.local.unprivileged import NOBODY
from tests.support.patience import wait_until
from tests.support.ports import OutsideWorld
from tests.support.postgres import PostgresServer
from tests.support.processes import end


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that its owner alone may enter, in which Postgres has to live."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    yield folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "starting Postgres loosened its parent folder"
    assert folder.stat().st_uid == os.geteuid()


@pytest.fixture
def server(closed_folder: Path, unused_port: Callable[[], int]) -> Postgres:
    return Postgres(
        folder=closed_folder / "postgres", port=unused_port(), password="correct-horse", durable=False
    )


def test_confirmed_rows_survive_a_kill_of_the_server(server: Postgres, tmp_path: Path) -> None:
    server = replace(server, durable=True)
    with (tmp_path / "log").open("ab") as log:
        first = server.start(log, dies_with_parent=True)
        try:
            server.wait_until_ready(first)
            server.create_database()
            with psycopg.connect(server.url()) as connection:
                connection.execute("create table receipt (id int primary key)")
                connection.execute("insert into receipt values (1)")
        finally:
            end_with_children(first)

        second = server.start(log, dies_with_parent=True)
        try:
            server.wait_until_ready(second)
            server.create_database()
            with psycopg.connect(server.url(DATABASE)) as connection:
                assert connection.execute("select id from receipt").fetchall() == [(1,)]
        finally:
            assert end(second, STOP_SIGNAL) == 0


def end_with_children(postgres: subprocess.Popen[bytes]) -> None:
    """By a kill, which its children learn of a moment later; until then they have its memory, and no other starts."""
    children = psutil.Process(postgres.pid).children()
    end(postgres, signal.SIGKILL)
    wait_until(lambda: not any(identity(child.pid) for child in children))


def test_it_never_runs_as_root_and_its_data_is_its_own(server: Postgres, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        uid = NOBODY if os.geteuid() == 0 else os.geteuid()
        assert psutil.Process(process.pid).uids().real == uid
        assert server.data.stat().st_uid == uid
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    finally:
        end(process, STOP_SIGNAL)


def test_the_password_is_asked_for_and_on_no_command_line(server: Postgres, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        assert not any("correct-horse" in part for part in psutil.Process(process.pid).cmdline())
        assert "correct-horse" not in repr(server)
        wrong = Postgres(folder=server.folder, port=server.port, password="wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong.url("postgres"))
    finally:
        end(process, STOP_SIGNAL)


def test_an_initialisation_that_was_cut_short_begins_anew(server: Postgres, tmp_path: Path) -> None:
    half_done = server.folder / "data.new"
    half_done.mkdir(parents=True)
    (half_done / "PG_VERSION").write_text("18\n")

    with (tmp_path / "log").open("ab") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        assert not half_done.exists()
    finally:
        end(process, STOP_SIGNAL)


def test_a_killed_server_that_nobody_reaped_is_not_taken_for_alive(server: Postgres, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        first = server.start(log, dies_with_parent=True)
        server.wait_until_ready(first)
        children = psutil.Process(first.pid).children()
        first.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # dead, and left unreaped
        wait_until(lambda: not any(identity(child.pid) for child in children))

        second = server.start(log, dies_with_parent=True)
        try:
            server.wait_until_ready(second)
        finally:
            end(second, STOP_SIGNAL)
            first.wait()


def test_a_server_that_can_not_start_is_told_at_once(server: Postgres, tmp_path: Path) -> None:
    server.initialise()
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")

    with (tmp_path / "log").open("ab") as log:
        process = server.start(log, dies_with_parent=True)
    with pytest.raises(PostgresFailed, match="while starting"):
        server.wait_until_ready(process)
    assert "no_such_setting" in (tmp_path / "log").read_text()


def test_every_database_is_new(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.create_database(), postgres_server.create_database()
    with psycopg.connect(first) as connection:
        connection.execute("create table mine (id int)")
    with psycopg.connect(second) as connection:
        assert connection.execute("select to_regclass('mine')").fetchone() == (None,)


def test_no_test_reaches_another_machine() -> None:
    with pytest.raises(OutsideWorld):
        __import__("socket").create_connection(("192.0.2.1", 80), timeout=1)
