"""Batches at the gateway: their requests behind everybody else's, their files led on to billing."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import httpx2 as httpx
import pytest
import redis
from aiohttp import web

from headrace_contracts.access import KeyStatus
from headrace_contracts.batch_tokens import ANSWERS_KEPT_SECONDS, PREFIX, batch_token, key_behind
from headrace_contracts.usage import Ending, ServiceTier
from headrace_gateway.http import batches
from headrace_gateway.limits import keys
from headrace_gateway.limits.idempotency import ANSWER_BOUNDS
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import MODEL, Account, another_account
from tests.gateway.conftest import INGEST_TOKEN
from tests.gateway.http.echo import Client
from tests.gateway.http.stack import BODY_BYTES_MAX, ORG_FILES_MAX, Stack, chat, running_stack
from tests.gateway.waiting import eventually
from tests.support.http_server import serving_app
from tests.support.upstream import Behaviour


def sha256(account: Account) -> str:
    return hashlib.sha256(account.secret.encode()).hexdigest()


def token_for(account: Account, *, secret: str = INGEST_TOKEN, seconds: int = 60) -> dict[str, str]:
    token = batch_token(sha256(account), secret, expires_at=int(time.time()) + seconds)
    return {"authorization": f"Bearer {token}"}


async def ask(stack: Stack, headers: dict[str, str], **changes: object) -> httpx.Response:
    return await stack.http.post("/v1/chat/completions", json=chat(**changes), headers=headers)


async def test_a_batch_s_request_is_its_key_s_and_told_apart_from_others(stack: Stack) -> None:
    # Where its owner spoke from was looked at when the batch was made.
    stack.account.push_key(allowed_cidrs=["192.0.2.0/24"])
    assert (await stack.post()).status_code == 403
    assert (await ask(stack, token_for(stack.account))).status_code == 200
    assert (await stack.http.get("/v1/models", headers=token_for(stack.account))).status_code == 200
    (event,) = await stack.settled()
    assert (event.service_tier, event.key) == (ServiceTier.BATCH, "key_1")


@pytest.mark.parametrize(("said", "kept"), [({}, 404), ({"store": False}, 404), ({"store": True}, 200)])
async def test_a_batch_s_response_is_kept_where_its_line_says_so(
    stack: Stack, said: dict[str, bool], kept: int
) -> None:
    asked = {"model": MODEL, "input": "hello"} | said
    answer = await stack.http.post("/v1/responses", json=asked, headers=token_for(stack.account))
    shown = await stack.http.get(f"/v1/responses/{answer.json()['id']}")
    assert (answer.status_code, shown.status_code) == (200, kept)
    await stack.settled()


async def test_a_token_that_others_made_or_that_is_old_is_none(stack: Stack) -> None:
    for headers in (token_for(stack.account, secret="of others"), token_for(stack.account, seconds=-1)):
        answer = await ask(stack, headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_revoked_key_takes_its_batches_with_it(stack: Stack) -> None:
    stack.account.push_key(status=KeyStatus.REVOKED)
    answer = await ask(stack, token_for(stack.account))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "api_key_revoked")


def waiting(stack: Stack, count: int) -> bool:
    return stack.gateway.waiting == count


async def test_who_came_later_is_served_before_a_batch(stack: Stack, client: redis.Redis) -> None:
    release = asyncio.Event()
    stack.offer(slots=1)
    stack.engine.behave(Behaviour(begins=release))
    person = another_account(client)

    def ask_in_words(headers: dict[str, str], words: str) -> "asyncio.Task[httpx.Response]":
        asked = ask(stack, headers, messages=[{"role": "user", "content": words}])
        return asyncio.create_task(asked)

    tasks = [ask_in_words(token_for(stack.account), "batch")]
    await eventually(lambda: len(stack.engine.attempts) == 1)
    for number in range(3):
        tasks.append(ask_in_words(token_for(stack.account), "batch"))
        await eventually(partial(waiting, stack, number + 1))
    tasks.append(ask_in_words({"authorization": f"Bearer {person.secret}"}, "person"))
    await eventually(partial(waiting, stack, 4))
    release.set()
    assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
    assert [attempt.body["messages"][0]["content"] for attempt in stack.engine.attempts][:2] == [
        "batch",
        "person",
    ]


async def test_a_batch_s_request_ends_well_although_its_worker_died_and_is_not_run_again(
    stack: Stack,
) -> None:
    stack.engine.default = Behaviour(before_first_seconds=0.2)
    headers = token_for(stack.account) | {"idempotency-key": "batch_1-1"}
    asking = asyncio.create_task(ask(stack, headers))
    await eventually(lambda: len(stack.engine.attempts) == 1)
    asking.cancel()
    (event,) = await stack.settled()
    assert event.ending is Ending.COMPLETED
    again = await ask(stack, headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.headers["x-request-id"] == event.id
    assert len(stack.engine.attempts) == 1


async def test_a_batch_s_answers_take_no_one_s_room(stack: Stack, client: redis.Redis) -> None:
    for counter in ("org_1:batch", f"all:{ANSWERS_KEPT_SECONDS}"):
        client.set(keys.idempotent_bytes(counter), ANSWER_BOUNDS.all_bytes_max)
    key = {"idempotency-key": "mine"}
    first = await ask(stack, key)
    assert (await ask(stack, key)).content == first.content
    line = token_for(stack.account) | {"idempotency-key": "batch_1-1"}
    assert (await ask(stack, line)).status_code == 200
    assert (await ask(stack, line)).json()["error"]["code"] == "idempotency_answer_not_kept"
    await stack.settled(2)


async def test_a_customer_s_own_idempotency_keys_do_not_meet_a_batch_s(stack: Stack) -> None:
    key = {"idempotency-key": "batch_1-1"}
    assert (await ask(stack, token_for(stack.account) | key)).status_code == 200
    own = await ask(stack, key)
    assert (own.status_code, own.headers.get("idempotent-replayed")) == (200, None)
    await stack.settled(2)


@dataclass
class Billing:
    """Takes what it is sent, and says when the first of it came."""

    requests: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        body = b""
        self.running += 1
        try:
            async for piece in request.content.iter_any():
                body += piece
                self.began.set()
        finally:
            self.running -= 1
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.requests.append((request.method, request.path_qs, token, body))
        return web.json_response({"id": "file_1"}, status=201)

    async def refuse(self, _: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "file_too_large"}}, status=413)

    async def put_off(self, request: web.Request) -> web.Response:
        error = web.json_response({"error": {"code": "unavailable"}}, status=503)
        if request.match_info["batch"] == "empty":
            error = web.Response(status=503)
        error.headers["retry-after"] = "7"
        return error

    async def content(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/octet-stream"})
        await response.prepare(request)
        if request.match_info["file"] == "file_endless":
            self.running += 1
            try:
                while True:
                    await response.write(b"x" * 2**20)
            finally:
                self.running -= 1
        await response.write(b"first")
        await self.goes_on.wait()
        await response.write(b"last")
        return response


@asynccontextmanager
async def with_billing(
    account: Account, settings: MeterSettings, port: int
) -> AsyncIterator[tuple[Stack, Billing]]:
    billing = Billing()
    app = web.Application()
    app.router.add_post("/v1/files", billing.take)
    app.router.add_get("/v1/files", billing.take)
    app.router.add_get("/v1/files/{file}/content", billing.content)
    app.router.add_post("/v1/batches/{batch}/cancel", billing.take)
    app.router.add_post("/v1/batches", billing.refuse)
    app.router.add_get("/v1/batches/{batch}", billing.put_off)
    async with (
        serving_app(app) as url,
        running_stack(account, replace(settings, billing_url=url), port) as stack,
    ):
        yield stack, billing


@pytest.fixture
async def relaying(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[tuple[Stack, Billing]]:
    async with with_billing(account, settings, unused_port()) as both:
        yield both


@pytest.mark.parametrize("told_length", [True, False])
async def test_a_file_is_led_on_as_it_comes(relaying: tuple[Stack, Billing], told_length: bool) -> None:
    stack, billing = relaying
    pieces = [bytes([number]) * BODY_BYTES_MAX for number in range(40)]

    async def sending() -> AsyncIterator[bytes]:
        yield pieces[0]
        # Whoever keeps back a body until it is whole never gets more of this one.
        await billing.began.wait()
        for piece in pieces[1:]:
            yield piece

    length = {"content-length": str(40 * BODY_BYTES_MAX)} if told_length else {}
    headers = {"content-type": "multipart/form-data; boundary=b", **length}
    answer = await stack.http.post("/v1/files", content=sending(), headers=headers)
    assert (answer.status_code, answer.json()) == (201, {"id": "file_1"})
    ((method, path, token, body),) = billing.requests
    assert (method, path, body) == ("POST", "/v1/files", b"".join(pieces))
    # Billing is shown no key, but learns whose it is.
    assert token.startswith(PREFIX)
    assert key_behind(token, INGEST_TOKEN, now=time.time()) == sha256(stack.account)


async def test_a_file_comes_back_as_it_is_read(relaying: tuple[Stack, Billing]) -> None:
    stack, billing = relaying
    async with stack.http.stream("GET", "/v1/files/file_1/content") as answer:
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"first"
        billing.goes_on.set()
        assert b"".join([piece async for piece in pieces]) == b"last"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-request-id"]


async def test_what_is_asked_of_a_path_is_led_on(relaying: tuple[Stack, Billing]) -> None:
    stack, billing = relaying
    await stack.http.get("/v1/files?limit=2&after=file_0")
    await stack.http.post("/v1/batches/batch_1/cancel")
    asked = [(method, path, body) for method, path, _, body in billing.requests]
    assert asked == [
        ("GET", "/v1/files?limit=2&after=file_0", b""),
        ("POST", "/v1/batches/batch_1/cancel", b""),
    ]


@asynccontextmanager
async def begun(stack: Stack, request: str, framing: str = "") -> AsyncIterator[Client]:
    """A client that has sent the head of a request and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    head = f"{request} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {stack.account.secret}\r\n{framing}\r\n"
    writer.write(head.encode())
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


CHUNKED = "transfer-encoding: chunked\r\n"


async def test_files_of_one_organisation_leave_connections_to_others(
    relaying: tuple[Stack, Billing], client: redis.Redis
) -> None:
    stack, billing = relaying
    async with AsyncExitStack() as uploads:
        for number in range(ORG_FILES_MAX):
            upload = await uploads.enter_async_context(begun(stack, "POST /v1/files", CHUNKED))
            await upload.say(b"1\r\nx\r\n")
            await eventually(lambda: billing.running == number + 1)  # noqa: B023
        refused = await stack.http.get("/v1/files")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        async with stack.as_(another_account(client)) as others:
            assert (await others.get("/v1/files")).status_code == 201
    await eventually(lambda: not billing.running)
    assert (await stack.http.get("/v1/files")).status_code == 201


async def test_a_file_that_stops_coming_is_not_waited_for(
    relaying: tuple[Stack, Billing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "GRACE_SECONDS", 0.2)
    stack, billing = relaying
    async with begun(stack, "POST /v1/files", CHUNKED) as upload:
        await upload.say(b"1\r\nx\r\n")
        assert (await upload.head()).startswith(b"HTTP/1.1 408")
    await eventually(lambda: not billing.running)


async def test_a_file_that_nobody_reads_on_is_broken_off(
    relaying: tuple[Stack, Billing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(batches, "BYTES_A_SECOND_MIN", 2**30)
    stack, billing = relaying
    async with begun(stack, "GET /v1/files/file_endless/content") as download:
        assert (await download.head()).startswith(b"HTTP/1.1 200")
        await eventually(lambda: not billing.running)


async def test_a_key_that_is_revoked_ends_the_files_on_their_way(relaying: tuple[Stack, Billing]) -> None:
    stack, billing = relaying
    async with (
        begun(stack, "POST /v1/files", CHUNKED) as upload,
        begun(stack, "GET /v1/files/file_1/content") as download,
    ):
        await upload.say(b"1\r\nx\r\n")
        assert (await download.head()).startswith(b"HTTP/1.1 200")
        await eventually(lambda: billing.running == 1)
        stack.account.push_key(status=KeyStatus.REVOKED)
        assert (await upload.head()).startswith(b"HTTP/1.1 401")
        assert not (await download.rest()).endswith(b"0\r\n\r\n")
    await eventually(lambda: not billing.running)


async def test_a_refusal_reaches_whoever_is_still_sending(relaying: tuple[Stack, Billing]) -> None:
    stack, _ = relaying
    answer = await stack.http.post("/v1/batches", content=b"x" * 2**20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")


@pytest.mark.parametrize("batch", ["batch_1", "empty"])
async def test_when_to_come_back_is_handed_on(relaying: tuple[Stack, Billing], batch: str) -> None:
    stack, _ = relaying
    answer = await stack.http.get(f"/v1/batches/{batch}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


async def test_a_compressed_file_is_refused_before_billing_is_asked(relaying: tuple[Stack, Billing]) -> None:
    stack, billing = relaying
    answer = await stack.http.post("/v1/files", content=b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "content_encoding_unknown")
    assert billing.requests == []


@pytest.mark.parametrize(
    "path",
    ["/v1/files/../organizations", "/v1/files/%2e%2e/organizations", "/v1/batches/a/b", "/v1/filesystem"],
)
async def test_nothing_else_of_billing_s_is_reached(relaying: tuple[Stack, Billing], path: str) -> None:
    stack, billing = relaying
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    head = f"GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {stack.account.secret}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    assert b" 404 " in (await reader.read()).partition(b"\r\n")[0]
    writer.close()
    assert billing.requests == []


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "OPTIONS"])
async def test_methods_that_billing_has_no_answer_to_are_not_led_on(
    relaying: tuple[Stack, Billing], method: str
) -> None:
    stack, billing = relaying
    answer = await stack.http.request(method, "/v1/files")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, DELETE")
    assert (await stack.http.get("/v1/files")).status_code == 201
    assert len(billing.requests) == 1


async def test_who_has_no_key_reaches_nothing_of_billing_s(relaying: tuple[Stack, Billing]) -> None:
    stack, billing = relaying
    for headers in ({"authorization": "Bearer hr-" + "b" * 43}, {"authorization": ""}):
        assert (await stack.http.get("/v1/files", headers=headers)).status_code == 401
    assert billing.requests == []


async def test_billing_that_is_away_is_a_reason_to_come_back(stack: Stack) -> None:
    answer = await stack.http.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "batches_unavailable")
    assert answer.headers["retry-after"]
