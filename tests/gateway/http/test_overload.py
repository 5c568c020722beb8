"""What a client sees when more is asked of a deployment than it has slots for."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis

from headrace_contracts.access import KeyStatus
from headrace_contracts.usage import Ending
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.routing.lines import QueueBounds
from tests.gateway.account import Account, another_account
from tests.gateway.http.stack import Stack, chat, running_stack, served_at
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour, running_engine

CHAT = "/v1/chat/completions"
SHORT = QueueBounds(wait_seconds=1.0, requests_max=8, org_requests_max=8)


def until(release: asyncio.Event) -> Behaviour:
    return Behaviour(tokens=1, begins=release)


def occupied(stack: Stack) -> tuple[asyncio.Task[Any], asyncio.Event]:
    """A request that runs while others come, until it is released; its engine has one slot."""
    release = asyncio.Event()
    stack.deploy(served_at(stack.engine.url, slots=1))
    stack.engine.behave(until(release))
    return asyncio.create_task(stack.post()), release


async def runs(stack: Stack, count: int = 1) -> None:
    await eventually(lambda: len(stack.engine.attempts) == count)


def waiting(stack: Stack) -> int:
    return stack.gateway.waiting


async def test_a_request_beyond_the_slots_waits_and_is_served(stack: Stack) -> None:
    first, release = occupied(stack)
    await runs(stack)
    second = asyncio.create_task(stack.post())
    await eventually(lambda: waiting(stack) == 1)
    assert len(stack.engine.attempts) == 1
    release.set()
    assert [(await each).status_code for each in (first, second)] == [200, 200]
    await stack.settled(2)


async def test_who_waited_long_enough_is_told_how_many_wait_and_when_to_come_again(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> None:
    async with running_stack(account, settings, unused_port(), queue=SHORT) as stack:
        stack.deploy(served_at(stack.engine.url, slots=1))
        assert (await stack.post()).status_code == 200  # a rate is measured
        first, release = occupied(stack)
        await runs(stack, 2)
        refused = await asyncio.gather(stack.post(), stack.post("/v1/messages", **chat(max_tokens=5)))
        errors = [reply.json()["error"] for reply in refused]
        assert [reply.status_code for reply in refused] == [503, 503]
        assert {error["code"] for error in errors} == {"capacity_exhausted"}
        assert [error["type"] for error in errors] == ["unavailable_error", "overloaded_error"]
        assert {error["queue_length"] for error in errors} == {0, 1}
        for reply, error in zip(refused, errors, strict=True):
            assert error["retry_after_seconds"] > 0
            assert int(reply.headers["retry-after"]) >= error["retry_after_seconds"]
        release.set()
        await first
        await stack.settled(2)


@pytest.mark.parametrize("ended", [{"status": KeyStatus.REVOKED}, {"expires_at_us": 1}])
async def test_nobody_waits_on_once_its_key_has_ended(
    stack: Stack, client: redis.Redis, ended: dict[str, Any]
) -> None:
    first, release = occupied(stack)
    await runs(stack)
    other = another_account(client)
    async with stack.as_(other) as others:
        second = asyncio.create_task(others.post(CHAT, json=chat()))
        await eventually(lambda: waiting(stack) == 1)
        other.push_key(**ended)
        reply = await second
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "revoked")
    assert waiting(stack) == 0
    release.set()
    assert (await first).status_code == 200
    await stack.settled(1)


async def test_a_client_that_hangs_up_while_it_waits_is_forgotten(stack: Stack) -> None:
    first, release = occupied(stack)
    await runs(stack)
    port = int(stack.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"glm-test","messages":[]}'
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (stack.account.secret.encode(), len(body), body)
    )
    await eventually(lambda: waiting(stack) == 1)
    # Gone at once, not after what it still has to say.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()
    del reader
    await eventually(lambda: waiting(stack) == 0)
    release.set()
    await first
    await stack.settled(1)
    assert len(stack.engine.attempts) == 1


async def test_at_shutdown_who_runs_ends_and_who_waits_is_told_at_once(stack: Stack) -> None:
    first, release = occupied(stack)
    await runs(stack)
    second = asyncio.create_task(stack.post())
    await eventually(lambda: waiting(stack) == 1)
    stack.stop.set()
    refused = await second
    assert not first.done()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    release.set()
    assert (await first).status_code == 200
    await stack.settled(1)


async def test_what_would_do_instead_and_refuses_leaves_the_request_in_its_own_model_s_line(
    stack: Stack,
) -> None:
    stack.account.push_key(fallback_models=["glm-unpriced"])
    full = served_at(stack.engine.url, slots=1)
    stack.deploy(full, served_at(stack.engine.url, id="other", model="glm-unpriced", aliases=[]))
    release = asyncio.Event()
    stack.engine.behave(until(release))
    running = [asyncio.create_task(stack.post()) for _ in range(2)]
    await eventually(lambda: waiting(stack) == 1)
    third = asyncio.create_task(stack.post())
    await eventually(lambda: waiting(stack) == 2)
    release.set()
    assert [(await each).status_code for each in (*running, third)] == [200, 200, 200]


@pytest.mark.parametrize("overflow", [False, True])
async def test_an_organisation_s_full_deployment_overflows_to_those_of_all_only_if_it_says_so(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], overflow: bool
) -> None:
    async with (
        running_stack(account, settings, unused_port(), queue=SHORT) as stack,
        running_engine() as dedicated,
    ):
        stack.deploy(
            served_at(stack.engine.url),
            served_at(dedicated.url, id="own", tenant="org_1", slots=1, overflow=overflow),
        )
        release = asyncio.Event()
        dedicated.behave(until(release))
        first = asyncio.create_task(stack.post())
        await eventually(lambda: len(dedicated.attempts) == 1)
        second = await stack.post()
        assert second.status_code == (200 if overflow else 503)
        assert len(stack.engine.attempts) == int(overflow)
        release.set()
        assert (await first).status_code == 200


async def test_what_others_ask_never_takes_a_slot_of_a_dedicated_deployment(
    stack: Stack, client: redis.Redis
) -> None:
    async with running_engine() as dedicated, stack.as_(another_account(client)) as stranger:
        stack.deploy(
            served_at(stack.engine.url, slots=1),
            served_at(dedicated.url, id="own", tenant="org_1", slots=1),
        )
        release = asyncio.Event()
        stack.engine.behave(until(release))
        running = asyncio.create_task(stranger.post(CHAT, json=chat()))
        await runs(stack)
        queued = asyncio.create_task(stranger.post(CHAT, json=chat()))
        await eventually(lambda: waiting(stack) == 1)
        assert (await stack.post()).status_code == 200
        assert len(dedicated.attempts) == 1
        release.set()
        assert [(await each).status_code for each in (running, queued)] == [200, 200]
        assert len(dedicated.attempts) == 1
        assert {event.deployment for event in await stack.settled(3)} == {"deployment_1", "own"}


async def test_a_stream_holds_its_slot_until_it_ends_however_it_ends(stack: Stack) -> None:
    stack.deploy(served_at(stack.engine.url, slots=1))
    stack.engine.behave(Behaviour(hang_after=2))
    async with stack.http.stream("POST", CHAT, json=chat(stream=True)) as reply:
        pieces = reply.aiter_text()
        await anext(pieces)
        second = asyncio.create_task(stack.post())
        await eventually(lambda: waiting(stack) == 1)
    assert (await second).status_code == 200
    assert [event.ending for event in await stack.settled(2)] == [Ending.CLIENT_GONE, Ending.COMPLETED]
