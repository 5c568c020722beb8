"""Who runs it: root in a closed checkout, or an ordinary user."""

import os
import pwd
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from headrace_platform.local.postgres import STOP_SIGNAL, Postgres, binaries
from headrace_platform.local.unprivileged import NOBODY
from tests.support.processes import end

# An ordinary user that every system has.
SOMEBODY = pwd.getpwnam("daemon").pw_uid

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")


@pytest.fixture(scope="module")
def own_binaries() -> Iterator[Path]:
    """The binaries in a folder whose permissions a test may choose."""
    with tempfile.TemporaryDirectory(prefix="headrace-test-") as folder:
        # As installed: the package, and beside it the libraries that its wheel brings along.
        package = binaries().parent.parent
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, Path(folder) / part.name)
        yield Path(folder) / package.name / "pginstall" / "bin"


@as_root
def test_root_may_keep_the_binaries_where_nobody_else_can_go(
    own_binaries: Path, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    own_binaries.parents[2].chmod(0o700)
    server = Postgres(
        folder=tmp_path / "postgres",
        port=unused_port(),
        password="correct-horse",
        durable=False,
        binaries=own_binaries,
    )
    with (tmp_path / "log").open("wb") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        found = psutil.Process(process.pid)
        assert found.uids().real == found.uids().effective == NOBODY
        kept = int(capabilities(process.pid)["CapEff"], 16)
        assert kept.bit_count() == 1, "it keeps one capability of root's, and no other"
        # Backends are forked, and load their libraries from the closed folder.
        with psycopg.connect(server.url("postgres")) as connection:
            connection.execute("create extension if not exists btree_gist")
    finally:
        end(process, STOP_SIGNAL)


@as_root
def test_with_reachable_binaries_it_keeps_nothing_of_root(
    own_binaries: Path, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    own_binaries.parents[2].chmod(0o755)
    server = Postgres(
        folder=tmp_path / "postgres",
        port=unused_port(),
        password="correct-horse",
        durable=False,
        binaries=own_binaries,
    )
    with (tmp_path / "log").open("wb") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        assert int(capabilities(process.pid)["CapEff"], 16) == 0
        assert int(capabilities(process.pid)["CapPrm"], 16) == 0
    finally:
        end(process, STOP_SIGNAL)


@as_root
def test_an_ordinary_user_runs_it_as_itself(
    own_binaries: Path, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    """As anyone but root the other tests prove the same."""
    home = own_binaries.parents[2]
    home.chmod(0o755)
    (home / "state").mkdir(mode=0o700)
    os.chown(home / "state", SOMEBODY, SOMEBODY)
    server = Postgres(
        folder=home / "state" / "postgres",
        port=unused_port(),
        password="correct-horse",
        durable=False,
        binaries=own_binaries,
    )
    reading, writing = os.pipe()
    with (tmp_path / "log").open("wb") as log:
        child = os.fork()
        if child == 0:
            try:
                os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
                os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
                process = server.start(log, dies_with_parent=True)
                os.write(writing, str(process.pid).encode())
                os._exit(process.wait())
            finally:
                log.write(traceback.format_exc().encode())
                log.flush()
                os._exit(1)
    os.close(writing)
    pid = int(os.read(reading, 20) or b"0")
    os.close(reading)
    try:
        assert pid, (tmp_path / "log").read_text()
        while not server.is_ready():
            assert psutil.pid_exists(pid), (tmp_path / "log").read_text()
        assert psutil.Process(pid).uids().real == SOMEBODY
        assert server.data.stat().st_uid == SOMEBODY
        os.kill(pid, STOP_SIGNAL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def capabilities(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if line.startswith("Cap"))
