"""Streams that are unusual: cut anywhere, uncounted, long, several at a time on one connection."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from headrace_contracts.usage import Ending
from headrace_gateway.http.interruption import Reason
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import BOUNDS, Stack, chat, parsed, running_stack, text_of
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

SLOW = Behaviour(tokens=400, before_each_seconds=0.01)


@pytest.mark.parametrize("piece_bytes", [1, 7, 100])
async def test_it_does_not_matter_where_the_bytes_are_cut(stack: Stack, piece_bytes: int) -> None:
    stack.engine.behave(Behaviour(piece_bytes=piece_bytes, text='é"usage":{"completion_tokens":99}\n\n'))

    events = await stack.events_of(stream_options={"include_usage": True})

    assert text_of(events) == "".join(f' é"usage":{{"completion_tokens":99}}\n\n{n}' for n in range(1, 6))
    [event] = await stack.settled()
    assert event.tokens.output == 5


async def test_a_client_may_have_the_running_counts_too(stack: Stack) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}

    *chunks, _ = await stack.events_of(stream_options=options)

    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if isinstance(chunk, dict)]
    assert counts == [0, 1, 2, 3, 4, 5, 5]
    await stack.settled()


async def test_an_engine_that_counts_only_at_the_end_is_held_to_its_slices_all_the_same(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=30, continuous_usage=False))

    events = await stack.events_of()

    assert events[-1] == "[DONE]"
    [event] = await stack.settled()
    assert event.tokens.output == 30


async def test_streams_use_one_engine_connection_again_and_again(stack: Stack) -> None:
    for _ in range(5):
        assert (await stack.events_of())[-1] == "[DONE]"

    assert stack.engine.connections == 1
    await stack.settled(5)


async def test_when_the_money_ends_every_unfinished_choice_ends(stack: Stack) -> None:
    stack.account.fund(160)
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.001))

    events = await stack.events_of(n=2)

    assert events[-1] == "[DONE]"
    ends = [
        (choice["index"], choice["finish_reason"])
        for event in events
        if isinstance(event, dict)
        for choice in event["choices"]
        if choice["finish_reason"]
    ]
    assert ends == [(0, "length"), (1, "length")]
    [event] = await stack.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    assert event.tokens.output == len(text_of(events).split())
    assert event.tokens.total <= 160


async def test_a_request_has_a_deadline(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> None:
    # Time enough for both to reach the engine, and not for what that takes.
    bounds = replace(BOUNDS, request_timeout_seconds=3)
    async with running_stack(account, settings, unused_port(), bounds=bounds) as stack:
        stack.engine.default = Behaviour(tokens=400, before_each_seconds=0.1)

        (*_, last), plain = await asyncio.gather(stack.events_of(), stack.post())

        assert isinstance(last, dict)
        assert last["error"]["code"] == "deadline_reached"
        assert (plain.status_code, plain.json()["error"]["code"]) == (504, "deadline_reached")
        endings = {event.ending for event in await stack.settled(2)}
        assert endings == {Ending.TIMED_OUT}
        await eventually(lambda: [each.ending for each in stack.engine.attempts] == ["aborted"] * 2)


async def test_a_handler_that_is_cancelled_settles_nevertheless(stack: Stack) -> None:
    stack.engine.behave(SLOW)
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        pieces = reply.aiter_text()
        text = ""
        while text.count("\n\n") < 3:
            text += await anext(pieces)
        [interruption] = stack.gateway._inference.running
        interruption._task.cancel()
        async for _ in pieces:
            pass

    [event] = await stack.settled()
    assert event.ending is Ending.GATEWAY_LOST
    assert event.tokens.output >= 2


async def test_whichever_reason_comes_first_is_the_one(stack: Stack) -> None:
    stack.engine.behave(SLOW)
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        pieces = reply.aiter_text()
        text = await anext(pieces)
        [interruption] = stack.gateway._inference.running
        for reason in (Reason.SHUTDOWN, Reason.REVOKED, Reason.CLIENT_GONE):
            interruption.interrupt(reason)
        text += "".join([piece async for piece in pieces])

    last = parsed(text)[-1]
    assert isinstance(last, dict)
    assert last["error"]["code"] == "shutting_down"
    [event] = await stack.settled()
    assert event.ending is Ending.GATEWAY_LOST


async def test_requests_may_follow_each_other_without_waiting(stack: Stack) -> None:
    """HTTP pipelining: the answers come in order, and none is lost."""
    bodies = [json.dumps(chat(stream=bool(number % 2))).encode() for number in range(4)]
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n"
    port = httpx.URL(stack.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(head % (stack.account.secret.encode(), len(body)) + body for body in bodies))
    received = b""
    async with asyncio.timeout(10):
        while received.count(b"HTTP/1.1 200") < 4 or received.count(b"[DONE]") < 2:
            received += await reader.read(65536)
    writer.close()
    await writer.wait_closed()

    assert received.count(b"HTTP/1.1 200") == 4
    events = await stack.settled(4)
    assert {event.tokens.total for event in events} == {12}


async def test_thirty_two_streams_at_once_are_each_whole_and_each_counted(stack: Stack) -> None:
    async def one() -> list[dict[str, Any] | str]:
        return await stack.events_of(stream_options={"include_usage": True})

    stack.engine.default = Behaviour(tokens=20, before_each_seconds=0.001)
    for events in await asyncio.gather(*(one() for _ in range(32))):
        assert events[-1] == "[DONE]"
        assert len(text_of(events).split()) == 20

    settled = await stack.settled(32)
    assert {event.tokens.output for event in settled} == {20}
    yielded = {attempt.id: attempt.yielded for attempt in stack.engine.attempts}
    assert yielded == {f"{event.id}.1": event.tokens.output for event in settled}
