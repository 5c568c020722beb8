"""The embedded Valkey, run for real."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from headrace_platform.local.valkey import STOP_SIGNAL, Valkey
from tests.support.processes import end


@pytest.fixture
def server(tmp_path: Path, unused_port: Callable[[], int]) -> Valkey:
    return Valkey(folder=tmp_path / "valkey", port=unused_port(), password="correct-horse")


def test_what_was_written_survives_a_kill_of_the_server(server: Valkey, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        first = server.start(log, dies_with_parent=True)
        server.wait_until_ready(first)
        with redis.Redis.from_url(server.url, socket_timeout=60) as client:
            client.xadd("stream", {"e": "1"})
            # Until the append-only file has it: the second that `everysec` may lose, and what the disk takes.
            client.execute_command("WAITAOF", 1, 0, 50_000)
        end(first, signal.SIGKILL)

        second = server.start(log, dies_with_parent=True)
        try:
            server.wait_until_ready(second)
            with redis.Redis.from_url(server.url) as client:
                assert client.xlen("stream") == 1
        finally:
            assert end(second, STOP_SIGNAL) == 0


def test_the_password_is_asked_for_and_on_no_command_line(server: Valkey, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        assert not any("correct-horse" in part for part in psutil.Process(process.pid).cmdline())
        with (
            redis.Redis(port=server.port) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    finally:
        end(process, STOP_SIGNAL)


def test_it_listens_on_the_loopback_address_alone(server: Valkey, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        process = server.start(log, dies_with_parent=True)
    try:
        server.wait_until_ready(process)
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(process.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]
    finally:
        end(process, STOP_SIGNAL)


def test_each_test_finds_valkey_empty(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0
        client.set("left", time.time())


def test_each_test_finds_valkey_empty_again(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0
        client.set("left", time.time())
