"""The evaluation's Valkeys, started as their container would start them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from headrace_platform.local.valkey import binary
from tests.chart.helm import Helm
from tests.chart.releases import DEV
from tests.support.processes import end

PASSWORD = "0123456789abcdef"
START_SECONDS = 60.0


@pytest.mark.parametrize("name", ["valkey", "gcs"])
def test_it_wants_its_password_keeps_what_it_has_and_throws_nothing_away(
    helm: Helm, tmp_path: Path, unused_port: Callable[[], int], name: str
) -> None:
    (container,) = helm.render(DEV).named("StatefulSet", f"headrace-{name}")["spec"]["template"]["spec"][
        "containers"
    ]
    port = unused_port()
    (script,) = container["args"]
    # What a container has of its own: a folder and a port.
    here = script.replace("dir /data\n", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1\n")
    server = subprocess.Popen(
        [*container["command"], here],
        env={"PATH": f"{binary().parent}:{os.defpath}", "VALKEY_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, password=PASSWORD) as client:
            ready(client)
            told = client.config_get("*")
            assert told["appendonly"] == "yes"
            assert told["maxmemory-policy"] == "noeviction"
            assert 0 < int(told["maxmemory"]) < 0.7 * 2**30, (
                "of a GiB, which a fork at a rewrite needs some of"
            )
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        # Whoever lists the processes sees no password.
        assert PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
    finally:
        end(server, signal.SIGTERM)


def ready(client: redis.Redis) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ping()
        except (redis.ConnectionError, redis.TimeoutError):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return
