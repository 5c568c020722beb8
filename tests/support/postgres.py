"""A Postgres server that all tests share, and a database for whoever asks."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from headrace_platform.local.ports import unused_port
from headrace_platform.local.postgres import STOP_SIGNAL, Postgres
from tests.support.processes import end

# A copied database is some hundred files: milliseconds in memory, up to a second on a busy disk.
MEMORY = Path("/dev/shm")  # noqa: S108


class PostgresServer:
    """One running server. Databases are cheap (some 30 ms each), but some 9 MB: a test's own is dropped after it."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._numbers = count(1)

    def url(self, database: str) -> str:
        return self._server.url(database)

    def create_database(self, *, template: str = "template0") -> str:
        """URL of a new database, empty or a copy of `template` (which nobody may be connected to)."""
        name = f"test_{next(self._numbers)}"
        self._server.create_database(name, template=template)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Whoever is still connected is not asked."""
        name = sql.Identifier(url.rpartition("/")[2])
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(name))


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    # A folder that a killed test run leaves behind is the system's to clean up, like any in /tmp.
    with tempfile.TemporaryDirectory(
        prefix="headrace-test-", dir=MEMORY if MEMORY.is_dir() else None
    ) as folder:
        server = Postgres(
            folder=Path(folder), port=unused_port(), password=secrets.token_hex(16), durable=False
        )
        with (Path(folder) / "log").open("wb") as log:
            process = server.start(log, dies_with_parent=True)
        try:
            server.wait_until_ready(process)
            yield PostgresServer(server)
        finally:
            end(process, STOP_SIGNAL)
