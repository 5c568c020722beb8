"""The program that `helm test` runs, against a gateway that really admits, relays and settles."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis

from headrace_gateway.metering.settings import MeterSettings
from tests.chart.helm import CHART, Helm
from tests.chart.releases import EXTERNAL, merged
from tests.gateway.account import MODEL, open_account
from tests.gateway.http.stack import Stack, running_stack

PROGRAM = CHART / "files" / "completion.py"


@pytest.fixture
async def stack(valkey_url: str, tmp_path: Path, unused_port: Callable[[], int]) -> AsyncIterator[Stack]:
    nobody = "http://127.0.0.1:9"
    settings = MeterSettings(
        name="gateway", state_dir=tmp_path, valkey_url=valkey_url, billing_url=nobody, ingest_token="t" * 16
    )
    with redis.Redis.from_url(valkey_url) as client:
        async with running_stack(open_account(client), settings, unused_port()) as running:
            yield running


async def run(url: str, key: str, model: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(PROGRAM),
        env={"PATH": os.defpath, "GATEWAY_URL": url, "API_KEY": key, "MODEL": model, "TIMEOUT_SECONDS": "20"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def test_it_makes_a_completion_with_the_first_model_that_the_key_may_use(stack: Stack) -> None:
    status, out, error = await run(stack.url, stack.account.secret)
    assert status == 0, error
    assert out.startswith(f"{MODEL} answered")
    (event,) = await stack.settled()
    assert event.model_requested == MODEL


async def test_it_fails_with_the_gateway_s_own_words(stack: Stack) -> None:
    status, _, error = await run(stack.url, "hr-nobody")
    assert status == 1
    assert "401" in error


async def test_it_fails_where_nobody_listens(unused_port: Callable[[], int]) -> None:
    status, _, error = await run(f"http://127.0.0.1:{unused_port()}", "hr-nobody")
    assert status == 1
    assert "refused" in error


def test_the_chart_runs_that_very_program_with_all_that_it_reads(helm: Helm) -> None:
    release = helm.render(merged(EXTERNAL, {"tests": {"existingSecret": "key", "model": MODEL}}))
    assert (
        release.named("ConfigMap", "headrace-test")["data"]["completion.py"].strip()
        == PROGRAM.read_text().strip()
    )
    pod = release.named("Pod", "headrace-test-completion")
    (container,) = pod["spec"]["containers"]
    given = {variable["name"] for variable in container["env"]}
    assert given == {"GATEWAY_URL", "API_KEY", "MODEL", "TIMEOUT_SECONDS"}
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert helm.render(EXTERNAL).of_kind("Pod") == []
