"""What can't be answered is refused early, clearly, and without a trace in the accounts."""

import asyncio
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2 as httpx
import pytest
from structlog.testing import capture_logs

from headrace_gateway.errors import GatewayError
from headrace_gateway.http.problems import STATUSES
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import BODY_BYTES_MAX, BOUNDS, Stack, chat, running_stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

GOOD = json.dumps(chat()).encode()


def code_of(reply: httpx.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert reply.headers["content-type"] == "application/json"
    return reply.status_code, error["code"]


def every(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind}.union(*(every(each) for each in kind.__subclasses__()))


def test_every_error_has_a_status_and_every_status_an_error() -> None:
    codes = {kind.code for kind in every(GatewayError) - {GatewayError}}
    assert codes == set(STATUSES)


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/v1/chat/completions", "hr-unknown", 401), ("/v1/messages", None, 400), ("/v1/nowhere", None, 404)],
)
async def test_a_refusal_has_an_id_that_leads_to_the_log(
    stack: Stack, path: str, key: str | None, status: int
) -> None:
    headers = {"authorization": f"Bearer {key or stack.account.secret}"}
    with capture_logs() as lines:
        reply = await stack.http.post(path, json={}, headers=headers)
    assert reply.status_code == status
    request_id = reply.headers["x-request-id"]
    assert UUID(request_id).version == 7
    [line] = [each for each in lines if each.get("request") == request_id]
    assert line["event"] == "request_refused"
    assert (line["status"], line["trace"]) == (status, request_id.replace("-", ""))
    if path == "/v1/messages":
        assert reply.json()["request_id"] == reply.headers["request-id"] == request_id


async def test_what_an_engine_refuses_is_logged_by_its_status(stack: Stack) -> None:
    stack.engine.behave(Behaviour(status=500))
    with capture_logs() as lines:
        reply = await stack.post()
    [line] = [each for each in lines if each["event"] == "upstream_refused"]
    assert (line["request"], line["status"]) == (reply.headers["x-request-id"], 500)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "JSON object"),
        (b'{"model": NaN}', "not valid JSON"),
        (b'{"model": "glm-test", "messages": [{"role": "user", "content": "\xff"}]}', "UTF-8"),
        (b'{"model": "glm-test", "messages": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "deeply"),
        (b'{"messages": []}', "`model` is missing"),
        (b'{"model": null, "messages": []}', "`model` is missing"),
        (b'{"model": 1, "messages": []}', "`model` must be a string"),
        (b'{"model": "glm-test"}', "`messages` is missing"),
        (b'{"model": "glm-test", "messages": ["\\ud83d"]}', r"`\ud83d` is half of a character"),
        (b'{"model": "glm-test", "messages": ["\\ud83d\\ude00 \\udE00"]}', r"`\udE00` is half"),
        (b'{"model": "glm-test", "messages": ["\\\\ud83d\\ud83d\\ude00', "truncated"),
        (b'{"model": "glm-test", "messages": "hello"}', "`messages` must be a list"),
    ],
)
async def test_a_broken_body(stack: Stack, body: bytes, says: str) -> None:
    reply = await stack.raw(body)

    assert code_of(reply) == (400, "invalid_request")
    assert says in reply.json()["error"]["message"]
    assert stack.engine.attempts == []
    assert stack.account.events() == []


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("stream", "yes"),
        ("n", 0),
        ("n", 129),
        ("n", "two"),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", 10**12),
        ("max_completion_tokens", 0),
        ("stream_options", {"include_usage": True}),
        ("use_beam_search", True),
        ("best_of", 2),
    ],
)
async def test_a_field_that_decides_about_money_is_checked(stack: Stack, param: str, value: Any) -> None:
    reply = await stack.post(**{param: value})

    assert code_of(reply) == (400, "invalid_request")
    assert reply.json()["error"]["param"] == param


async def test_the_last_of_two_equal_fields_counts_for_us_and_for_the_engine(stack: Stack) -> None:
    body = b'{"max_tokens": 1000000000000, ' + GOOD[1:-1] + b', "max_tokens": 2}'

    reply = await stack.raw(body)

    assert reply.status_code == 200, reply.text
    assert stack.engine.last.body["max_tokens"] == 2
    await stack.settled()


async def test_fields_that_would_jump_the_queue_do_not_reach_the_engine(stack: Stack) -> None:
    await stack.post(priority=-100, request_id="another", top_k=5, n=None)

    assert stack.engine.last.body == chat(model="engine-name", top_k=5)
    await stack.settled()


async def test_a_compressed_body_is_refused_as_what_it_is(stack: Stack) -> None:
    reply = await stack.raw(gzip.compress(GOOD), content_encoding="gzip")
    assert code_of(reply) == (415, "content_encoding_unknown")
    assert "`Content-Encoding: gzip`" in reply.json()["error"]["message"]
    assert stack.engine.attempts == []
    assert (await stack.raw(GOOD, content_encoding="identity")).status_code == 200
    await stack.settled()


async def test_a_body_over_the_bound_is_refused_by_its_length(stack: Stack) -> None:
    reply = await stack.raw(b" " * (BODY_BYTES_MAX + 1))
    assert code_of(reply) == (413, "body_too_large")


async def test_a_body_over_the_bound_is_refused_while_it_is_read(stack: Stack) -> None:
    async def pieces() -> object:
        for _ in range(BODY_BYTES_MAX // 1024 + 2):
            yield b" " * 1024

    reply = await stack.http.post(
        "/v1/chat/completions",
        content=pieces(),  # type: ignore[arg-type]
        headers={"content-type": "application/json"},
    )
    assert code_of(reply) == (413, "body_too_large")


async def test_a_body_in_pieces_is_a_body(stack: Stack) -> None:
    async def pieces() -> object:
        for at in range(0, len(GOOD), 7):
            yield GOOD[at : at + 7]

    reply = await stack.http.post(
        "/v1/chat/completions",
        content=pieces(),  # type: ignore[arg-type]
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 200, reply.text
    await stack.settled()


async def test_a_body_that_does_not_come_is_not_waited_for(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> None:
    bounds = replace(BOUNDS, body_timeout_seconds=0.5)
    async with running_stack(account, settings, unused_port(), bounds=bounds) as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(stack.url).port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer %b\r\ncontent-length: 100\r\n\r\n{" % stack.account.secret.encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
        writer.close()

    assert head.startswith(b"HTTP/1.1 408")


async def test_another_content_type(stack: Stack) -> None:
    reply = await stack.raw(GOOD, content_type="application/x-www-form-urlencoded")
    assert code_of(reply) == (400, "invalid_request")


async def test_without_a_key(stack: Stack) -> None:
    for authorization in ("", "Basic dXNlcg==", "Bearer", "Bearer " + "x" * 10_000):
        reply = await stack.raw(GOOD, authorization=authorization)
        assert code_of(reply) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"


async def test_whoever_has_no_key_learns_nothing_about_models_and_bodies(stack: Stack) -> None:
    for body in (b"{", json.dumps(chat(model="gpt-4")).encode(), b" " * (BODY_BYTES_MAX + 1)):
        reply = await stack.raw(body, authorization="Bearer hr-" + "b" * 43)
        assert code_of(reply) == (401, "invalid_api_key")


async def test_unknown_paths_and_methods(stack: Stack) -> None:
    assert code_of(await stack.http.get("/v1/nothing")) == (404, "path_unknown")
    assert code_of(await stack.http.get("/v1/models/")) == (404, "path_unknown")
    reply = await stack.http.get("/v1/chat/completions")
    assert code_of(reply) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"
    assert code_of(await stack.http.delete("/v1/models/glm-test")) == (405, "method_not_allowed")


@pytest.mark.parametrize("value", ["a b", "x" * 129, "-leading", "snow\u00e9", 'quo"te'])
async def test_ids_in_headers_are_plain(stack: Stack, value: str) -> None:
    reply = await stack.http.post(
        "/v1/chat/completions", json=chat(), headers=[(b"X-Session-Id", value.encode("latin-1"))]
    )
    assert code_of(reply) == (400, "invalid_request")
    assert reply.json()["error"]["param"] == "X-Session-Id"


async def test_session_and_task_stand_in_the_event(stack: Stack) -> None:
    stack.account.push_task("task_1")
    headers = {"X-Session-Id": "s-1", "X-Task-Id": "task_1", "X-Task-Attempt": "2"}

    reply = await stack.http.post("/v1/chat/completions", json=chat(max_tokens=5), headers=headers)

    assert reply.status_code == 200, reply.text
    [event] = await stack.settled()
    assert (event.session, event.task, event.task_attempt) == ("s-1", "task_1", "2")


async def test_a_task_that_is_not_open(stack: Stack) -> None:
    reply = await stack.http.post("/v1/chat/completions", json=chat(), headers={"X-Task-Id": "task_9"})
    assert code_of(reply) == (400, "task_not_open")


async def test_a_valid_trace_goes_on_to_the_engine(stack: Stack) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await stack.http.post("/v1/chat/completions", json=chat(), headers={"traceparent": trace})
    assert stack.engine.last.headers["traceparent"] == trace
    await stack.http.post("/v1/chat/completions", json=chat(), headers={"traceparent": "00-1-2-3"})
    assert "traceparent" not in stack.engine.last.headers
    await stack.settled(2)


async def test_a_cold_valkey_is_said_and_when_to_come_back(stack: Stack) -> None:
    stack.account.client.delete("hr:epoch")

    reply = await stack.post()

    assert code_of(reply) == (503, "limits_rebuilding")
    assert int(reply.headers["retry-after"]) >= 1


async def test_health_and_readiness(stack: Stack) -> None:
    assert (await stack.http.get("/healthz")).status_code == 200
    await eventually(lambda: stack.meter.not_ready is None)
    assert (await stack.http.get("/readyz")).status_code == 200
