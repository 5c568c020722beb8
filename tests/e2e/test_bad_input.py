"""What a caller or the engine can do wrong, on the real stack: a clear answer, and nothing left behind."""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from headrace_contracts import channels
from headrace_platform.demo.seller import Billing
from tests.e2e.conftest import DemoRun
from tests.support.engine import CORE
from tests.support.patience import wait_until
from tests.support.processes import started_by

pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]

# A lease whose settlement is retried behind, or that the reaper has to take, is gone by then.
CLEAN_WITHIN_SECONDS = 15.0
# An engine whose core was killed has another by then.
BACK_WITHIN_SECONDS = 180.0

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "What is 17+25?"}], "max_tokens": 100}


def post(
    demo: DemoRun, body: bytes, *, key: str | None = None, told_bytes: int | None = None
) -> tuple[int, dict[str, Any]]:
    """`told_bytes`: how long the body is said to be."""
    address = urlsplit(demo.endpoints.gateway_url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    try:
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {key or demo.endpoints.api_key}",
            "content-length": str(told_bytes or len(body)),
        }
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["error"]
    finally:
        connection.close()


def left_behind(demo: DemoRun) -> dict[str, object]:
    """Leases and money held that should not be there; empty when all is clean."""
    found: dict[str, object] = {}
    with redis.Redis.from_url(demo.endpoints.valkey_url, decode_responses=True) as valkey:
        for name in valkey.scan_iter("hr:lease*"):
            found[name] = valkey.type(name)
        for name in valkey.scan_iter(channels.wallet("*")):
            if not name.endswith(":pending"):
                held = valkey.hget(name, "held")
                if int(str(held or 0)):
                    found[name] = held
    return found


def expect_clean(demo: DemoRun) -> None:
    until = time.monotonic() + CLEAN_WITHIN_SECONDS
    while left_behind(demo) and time.monotonic() < until:
        time.sleep(0.2)
    assert left_behind(demo) == {}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"model": "glm-tiny", "messages": [', 400, "invalid_request"),
        (b'{"model": "glm-tiny", "messages": [{"role": "user", "content": "\xff"}]}', 400, "invalid_request"),
        (json.dumps({**QUESTION, "model": "glm-none"}).encode(), 404, "model_not_found"),
        (json.dumps({**QUESTION, "model": "glm-tiny", "max_tokens": -1}).encode(), 400, "invalid_request"),
    ],
    ids=["broken", "not UTF-8", "unknown model", "negative bound"],
)
def test_a_bad_body_is_refused_and_leaves_nothing(demo: DemoRun, body: bytes, status: int, code: str) -> None:
    seen, error = post(demo, body)
    assert (seen, error["code"]) == (status, code)
    expect_clean(demo)


def test_a_body_over_the_bound_is_refused_before_it_is_sent(demo: DemoRun) -> None:
    status, error = post(demo, b"", told_bytes=33 * 2**20)
    assert (status, error["code"]) == (413, "body_too_large")
    expect_clean(demo)


def test_a_wrong_key_is_refused_and_leaves_nothing(demo: DemoRun) -> None:
    status, error = post(demo, json.dumps({**QUESTION, "model": "glm-tiny"}).encode(), key="hr-" + "x" * 43)
    assert (status, error["code"]) == (401, "invalid_api_key")
    expect_clean(demo)


def test_a_stream_that_the_engine_breaks_off_ends_in_an_error_and_is_billed_no_further(demo: DemoRun) -> None:
    killed = engine_cores(demo)
    assert killed, "no engine core process was found"

    def kill_the_engine_core() -> None:
        for victim in killed:
            victim.kill()

    try:
        request = demo.customer.break_off(after_chunks=10, then=kill_the_engine_core)
        expect_clean(demo)
    finally:
        # Whatever test comes next has an engine again: for a moment the old replica still says that it is ready.
        wait_until(lambda: set(engine_cores(demo)) - set(killed), seconds=BACK_WITHIN_SECONDS)
        wait_until(lambda: demo.stack.status().ready, seconds=BACK_WITHIN_SECONDS)
    with Billing(demo.endpoints.billing_url, demo.endpoints.admin_token) as seller:
        row = wait_for_row(seller, request)
    assert row["ending"] == "upstream_failed"
    assert row["billed_output"] <= row["engine_output"]


def engine_cores(demo: DemoRun) -> list[psutil.Process]:
    [engine] = [program.pid for program in demo.stack.status().programs if program.name == "engine"]
    assert engine is not None, "the engine is not running"
    return started_by(engine, CORE)


def wait_for_row(seller: Billing, request: str) -> dict[str, Any]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for organization in seller.get("/v1/organizations")["items"]:
            report = seller.get("/v1/reconciliation", organization=organization["id"])
            for row in report["requests"]:
                if row["request_id"] == request and row["status"] != "pending":
                    found: dict[str, Any] = row
                    return found
        time.sleep(0.5)
    raise AssertionError(f"request {request} is in no reconciliation")
