"""A Valkey server that all tests share."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from headrace_platform.local.ports import unused_port
from headrace_platform.local.valkey import STOP_SIGNAL, Valkey
from tests.support.processes import end


@contextmanager
def running_valkey() -> Iterator[Valkey]:
    with running_valkey_process() as (server, _):
        yield server


@contextmanager
def bounded(client: redis.Redis, bytes_max: int) -> Iterator[None]:
    """While Valkey may have no more memory than that: a byte, say, and it is full."""
    before: Any = client.config_get("maxmemory")
    client.config_set("maxmemory", bytes_max)
    try:
        yield
    finally:
        client.config_set("maxmemory", before["maxmemory"])


@contextmanager
def running_valkey_process() -> Iterator[tuple[Valkey, int]]:
    """With its pid, for tests that stop or kill it."""
    with tempfile.TemporaryDirectory(prefix="headrace-test-") as folder:
        server = Valkey(folder=Path(folder), port=unused_port(), password=secrets.token_hex(16))
        with (Path(folder) / "log").open("wb") as log:
            process = server.start(log, dies_with_parent=True)
        try:
            server.wait_until_ready(process)
            yield server, process.pid
        finally:
            end(process, STOP_SIGNAL)
