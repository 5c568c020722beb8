"""Large bodies: they take room once their key is known, no organisation all of it, and none for a client that dawdles."""

import asyncio
import contextlib
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import cast

import httpx2 as httpx
import pytest
import redis

from headrace_contracts.access import KeyStatus
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects import openai_request
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.dialects.forms import Form, encode_form
from headrace_gateway.dialects.values import VALUES_MAX
from headrace_gateway.errors import Overloaded
from headrace_gateway.http.exchange import SMALL_BYTES_MAX, Exchange, Line
from headrace_gateway.http.large_bodies import LargeBodies
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account, another_account
from tests.gateway.http.echo import Client, answers
from tests.gateway.http.stack import BOUNDS, LARGE_BODIES_BYTES_MAX, Stack, chat, running_stack
from tests.gateway.waiting import eventually

BODY_BYTES_MAX = LARGE_BODIES_BYTES_MAX // 2
"""As much as one organisation may have on its way."""

LARGE = json.dumps(chat(user="x" * (BODY_BYTES_MAX * 3 // 4))).encode()


@pytest.fixture
async def stack(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    bounds = replace(BOUNDS, body_bytes_max=BODY_BYTES_MAX, body_timeout_seconds=5.0)
    async with running_stack(account, settings, unused_port(), bounds=bounds) as running:
        yield running


@contextlib.asynccontextmanager
async def sending(stack: Stack, secret: str, framing: str) -> AsyncIterator[Client]:
    """A client that has sent the head of a request and goes on with its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(stack.url).port)
    client = Client(reader, writer)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n{framing}\r\n\r\n"
    await client.say(head.encode())
    try:
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def test_what_one_organisation_sends_leaves_room_for_others(stack: Stack, client: redis.Redis) -> None:
    async with sending(stack, stack.account.secret, f"content-length: {len(LARGE)}") as first:
        await eventually(lambda: stack.large_bodies.taken_bytes == len(LARGE))
        async with sending(
            stack, stack.account.secret, f"expect: 100-continue\r\ncontent-length: {len(LARGE)}"
        ) as second:
            # It is told before it sends any of it.
            assert (await second.head()).startswith(b"HTTP/1.1 503")
        assert (await stack.raw(json.dumps(chat()).encode())).status_code == 200
        async with stack.as_(another_account(client)) as others:
            assert (await others.post("/v1/chat/completions", content=LARGE)).status_code == 200
        await first.say(LARGE)
        assert (await first.head()).startswith(b"HTTP/1.1 200")
    assert stack.large_bodies.taken_bytes == 0


async def test_a_body_that_does_not_say_how_large_it_is_takes_room_as_it_comes(stack: Stack) -> None:
    rest = LARGE
    async with sending(stack, stack.account.secret, "transfer-encoding: chunked") as client:
        taken = []
        for _ in range(3):
            piece, rest = rest[:SMALL_BYTES_MAX], rest[SMALL_BYTES_MAX:]
            await client.say(chunk(piece))
            before = len(LARGE) - len(rest)
            await eventually(
                lambda: before == SMALL_BYTES_MAX or before <= stack.large_bodies.taken_bytes  # noqa: B023
            )
            taken.append(stack.large_bodies.taken_bytes)
        assert taken[0] == 0
        assert all(at < 4 * SMALL_BYTES_MAX for at in taken)
        await client.say(chunk(rest), b"0\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200")
    assert stack.large_bodies.taken_bytes == 0


async def test_a_body_for_whose_rest_there_is_no_room_is_refused(stack: Stack, client: redis.Redis) -> None:
    for other in (another_account(client).id, "third"):
        stack.large_bodies.take(other, BODY_BYTES_MAX - SMALL_BYTES_MAX // 2)
    async with sending(stack, stack.account.secret, "transfer-encoding: chunked") as sender:
        await sender.say(chunk(LARGE), b"0\r\n\r\n")
        [(status, body)] = answers(await sender.rest())
    assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
    assert stack.account.events() == []


async def test_a_body_that_has_its_room_needs_no_more_to_arrive(stack: Stack, client: redis.Redis) -> None:
    stack.large_bodies.take("third", BODY_BYTES_MAX)
    stack.large_bodies.take(another_account(client).id, BODY_BYTES_MAX - len(LARGE))
    assert (await stack.raw(LARGE)).status_code == 200


def test_a_body_in_tiny_chunks_is_held_in_hardly_more_than_its_bytes() -> None:
    exchange = Exchange(cast("Line", None), "POST", "/", {}, keep_alive=True, chunked=True)
    tracemalloc.start()
    try:
        for number in range(SMALL_BYTES_MAX // 4):
            exchange.add(b"%04x" % (number & 0xFFFF))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < exchange.body_bytes * 3 // 2


async def test_what_runs_goes_on_while_a_large_body_is_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, others_served = threading.Event(), threading.Event()
    decode = openai_request.decode_request

    def slow(body: bytes, dialect: Dialect) -> InferenceRequest:
        if len(body) == len(LARGE):
            begun.set()
            assert others_served.wait(20)
        return decode(body, dialect)

    monkeypatch.setattr(openai_request, "decode_request", slow)
    large = asyncio.create_task(stack.raw(LARGE))
    await eventually(begun.is_set)
    assert (await stack.post()).status_code == 200
    others_served.set()
    assert (await large).status_code == 200


async def test_a_large_body_of_more_values_than_are_made_is_refused(stack: Stack) -> None:
    values = b"[" + b"[]," * VALUES_MAX + b"[]]"
    reply = await stack.raw(json.dumps(chat()).encode()[:-1] + b', "documents": ' + values + b"}")

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert "more than 524,288 values" in reply.json()["error"]["message"]
    assert (stack.engine.attempts, stack.account.events()) == ([], [])
    assert stack.large_bodies.taken_bytes == 0


async def test_what_runs_goes_on_while_a_large_form_is_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, others_served = threading.Event(), threading.Event()

    def slow(form: Form) -> bytes:
        begun.set()
        assert others_served.wait(20)
        return encode_form(form)

    monkeypatch.setattr("headrace_gateway.http.forms.encode_form", slow)
    file = {"file": b"x" * (SMALL_BYTES_MAX + 1)}
    large = asyncio.create_task(stack.http.post("/v1/audio/transcriptions", files=file))
    await eventually(begun.is_set)
    assert (await stack.post()).status_code == 200
    others_served.set()
    assert (await large).status_code == 400


async def test_of_one_organisation_one_large_body_is_read_at_a_time() -> None:
    room = LargeBodies(bytes_max=100)
    running: list[bytes] = []
    most: list[int] = []
    others_began = threading.Event()

    def decode(body: bytes) -> None:
        running.append(body)
        most.append(len(running))
        if body == b"other":
            others_began.set()
        assert others_began.wait(20)
        running.remove(body)

    for org in ("one", "two"):
        room.take(org, 10)
    first = [asyncio.create_task(room.read("one", b"%d" % number, decode)) for number in range(4)]
    await eventually(lambda: running)
    await room.read("two", b"other", decode)
    await asyncio.gather(*first)
    assert max(most) == 2


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", f"content-length: {len(LARGE)}"])
async def test_who_has_no_key_takes_no_room(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(LargeBodies, "take", lambda _, org, __: taken.append(org))
    async with sending(stack, "hr-" + "x" * 43, framing) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 401")
    assert taken == []


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", f"content-length: {len(LARGE)}"])
async def test_a_large_body_is_not_waited_for_once_its_key_is_revoked(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], framing: str
) -> None:
    bounds = replace(BOUNDS, body_bytes_max=BODY_BYTES_MAX, body_timeout_seconds=600.0)
    async with (
        running_stack(account, settings, unused_port(), bounds=bounds) as stack,
        sending(stack, account.secret, framing) as client,
    ):
        await client.say(chunk(LARGE[: len(LARGE) // 2]))
        await eventually(lambda: stack.large_bodies.taken_bytes)
        account.push_key(status=KeyStatus.REVOKED)
        [(status, body)] = answers(await client.rest())
        assert (status, json.loads(body)["error"]["code"]) == (401, "api_key_revoked")
        assert stack.large_bodies.taken_bytes == 0


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", f"content-length: {len(LARGE)}"])
async def test_a_large_body_that_stops_coming_gives_its_room_back(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], framing: str
) -> None:
    bounds = replace(BOUNDS, body_bytes_max=BODY_BYTES_MAX, body_timeout_seconds=0.3)
    async with (
        running_stack(account, settings, unused_port(), bounds=bounds) as stack,
        sending(stack, account.secret, framing) as client,
    ):
        await client.say(chunk(LARGE[: len(LARGE) // 2]))
        [(status, _)] = answers(await client.rest())
        assert status == 408
        assert stack.large_bodies.taken_bytes == 0


async def test_a_large_body_may_take_longer_than_a_small_one_if_it_goes_on_coming(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_gateway.http.exchange.PACE_BYTES", 1024)
    bounds = replace(BOUNDS, body_bytes_max=BODY_BYTES_MAX, body_timeout_seconds=0.5)
    async with (
        running_stack(account, settings, unused_port(), bounds=bounds) as stack,
        sending(stack, account.secret, f"content-length: {len(LARGE)}") as client,
    ):
        await client.say(LARGE[: 2 * SMALL_BYTES_MAX])
        await asyncio.sleep(0.8)
        await client.say(LARGE[2 * SMALL_BYTES_MAX :])
        assert (await client.head()).startswith(b"HTTP/1.1 200")


def test_an_organisation_has_half_of_the_room_at_most() -> None:
    room = LargeBodies(bytes_max=100)
    room.take("one", 30)
    with pytest.raises(Overloaded, match="your organisation"):
        room.take("one", 21)
    room.take("two", 50)
    with pytest.raises(Overloaded, match="as many large bodies as it can"):
        room.take("three", 21)
    room.give_back("one", 30)
    room.take("three", 50)
    assert room.taken_bytes == 100
