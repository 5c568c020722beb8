"""However a request ends, it is settled once, for what was relayed, and the engine stops with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from headrace_contracts.access import KeyStatus, Limit, LimitKind, Window, WindowShape, WindowUnit
from headrace_contracts.usage import Ending
from tests.gateway.http.stack import Stack, chat, parsed
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

SLOW = Behaviour(tokens=400, before_each_seconds=0.01)


async def first_events(reply: httpx.Response, count: int) -> list[str]:
    """Reads so many events of a stream and no more."""
    seen = ""
    pieces: AsyncIterator[str] = reply.aiter_text()
    async for piece in pieces:
        seen += piece
        if seen.count("\n\n") >= count:
            break
    return seen.split("\n\n")[:count]


async def gone_once_the_engine_was_asked(stack: Stack, **changes: Any) -> None:
    asking = asyncio.create_task(stack.post(**changes))
    await eventually(lambda: stack.engine.attempts)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def error_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def error_event(events: list[dict[str, Any] | str]) -> str:
    last = events[-1]
    assert isinstance(last, dict), last
    code: str = last["error"]["code"]
    return code


# The client goes -------------------------------------------------------------------------------------------


async def test_a_client_that_goes_mid_stream_pays_what_was_relayed_and_the_engine_stops(stack: Stack) -> None:
    stack.engine.behave(SLOW)
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        await first_events(reply, 4)

    [event] = await stack.settled()
    assert event.ending is Ending.CLIENT_GONE
    assert event.tokens.input == 7
    await eventually(lambda: stack.engine.last.ending == "aborted")
    # What was under way when the client went is at most what came within the time of noticing.
    assert 3 <= event.tokens.output <= stack.engine.last.yielded < 60


async def test_a_client_that_goes_mid_stream_pays_the_cached_prompt_as_cached(stack: Stack) -> None:
    stack.engine.behave(replace(SLOW, cached_header=True))
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        await first_events(reply, 4)

    [event] = await stack.settled()
    assert (event.tokens.input_uncached, event.tokens.cache_read) == (4, 3)


async def test_a_client_that_goes_before_the_first_byte_of_a_stream(stack: Stack) -> None:
    stack.engine.behave(Behaviour(before_first_seconds=60))
    await gone_once_the_engine_was_asked(stack, stream=True)

    [event] = await stack.settled()
    assert (event.ending, event.tokens.total, event.attempts) == (Ending.CLIENT_GONE, 0, 1)
    await eventually(lambda: stack.engine.last.ending == "aborted")


async def test_a_client_that_goes_while_a_plain_request_runs_pays_nothing(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=5, before_each_seconds=60))
    await gone_once_the_engine_was_asked(stack)

    [event] = await stack.settled()
    assert (event.ending, event.tokens.total) == (Ending.CLIENT_GONE, 0)
    await eventually(lambda: stack.engine.last.ending == "aborted")
    assert stack.engine.last.yielded < 5


async def test_a_client_that_goes_after_the_last_word_but_before_the_end(stack: Stack) -> None:
    stack.engine.behave(Behaviour(before_done_seconds=60))
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        await first_events(reply, 6)

    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.CLIENT_GONE, 5)


async def test_a_client_that_closes_at_the_last_event_as_clients_do(stack: Stack) -> None:
    for _ in range(20):
        async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
            events = await first_events(reply, 7)
        assert events[-1] == "data: [DONE]"

    events_settled = await stack.settled(20)
    assert {(event.ending, event.tokens.total) for event in events_settled} == {(Ending.COMPLETED, 12)}


# The engine goes -------------------------------------------------------------------------------------------


async def test_an_engine_that_breaks_off_mid_stream(stack: Stack) -> None:
    stack.engine.behave(Behaviour(break_after=3))

    events = await stack.events_of()

    assert error_event(events) == "upstream_failed"
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.UPSTREAM_FAILED, 3)


async def test_an_engine_that_ends_cleanly_but_too_early(stack: Stack) -> None:
    stack.engine.behave(Behaviour(end_after=3))

    assert error_event(await stack.events_of()) == "upstream_failed"
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.UPSTREAM_FAILED, 3)


async def test_an_engine_that_reports_an_error_mid_stream(stack: Stack) -> None:
    stack.engine.behave(Behaviour(error_event_after=2))

    events = await stack.events_of()

    assert error_event(events) == "upstream_failed"
    assert "engine died" not in json.dumps(events)
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.UPSTREAM_FAILED, 2)


async def test_an_engine_that_hangs_mid_stream(impatient: Stack) -> None:
    impatient.engine.behave(Behaviour(hang_after=2))

    assert error_event(await impatient.events_of()) == "upstream_timed_out"
    [event] = await impatient.settled()
    assert (event.ending, event.tokens.output) == (Ending.TIMED_OUT, 2)
    await eventually(lambda: impatient.engine.last.ending == "aborted")


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_engine_that_never_begins(impatient: Stack, streamed: bool) -> None:
    impatient.engine.behave(Behaviour(before_first_seconds=3600))

    assert error_of(await impatient.post(stream=streamed)) == (504, "upstream_timed_out")
    [event] = await impatient.settled()
    assert (event.ending, event.tokens.total) == (Ending.TIMED_OUT, 0)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: application/json\r\n\r\n{nope",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\ncontent-type: text/event-stream\r\n\r\ndata: {nope",
        b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\ncontent-type: text/event-stream\r\n\r\ndata: {nope}\n\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_engine_that_answers_garbage(stack: Stack, raw: bytes, streamed: bool) -> None:
    stack.engine.behave(Behaviour(raw=raw))

    reply = await stack.post(stream=streamed)

    assert error_of(reply) == (502, "upstream_failed")
    assert "nope" not in reply.text
    [event] = await stack.settled()
    assert (event.ending, event.tokens.total) == (Ending.UPSTREAM_FAILED, 0)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, (400, "invalid_request")),
        (401, (502, "upstream_failed")),
        (404, (400, "invalid_request")),
        (422, (400, "invalid_request")),
        (429, (503, "upstream_busy")),
        (500, (502, "upstream_failed")),
        (504, (504, "upstream_timed_out")),
    ],
)
async def test_an_engine_that_refuses(stack: Stack, status: int, answer: tuple[int, str]) -> None:
    stack.engine.behave(Behaviour(status=status, error="because"))

    reply = await stack.post()

    assert error_of(reply) == answer
    assert ("because" in reply.text) == (answer[1] == "invalid_request")
    [event] = await stack.settled()
    assert (event.tokens.total, event.attempts) == (0, 1)
    assert event.ending is (Ending.TIMED_OUT if status == 504 else Ending.UPSTREAM_FAILED)


# Once more -------------------------------------------------------------------------------------------------


async def test_a_kept_connection_that_was_closed_costs_a_second_attempt_and_nothing_else(
    stack: Stack,
) -> None:
    stack.engine.behave(Behaviour(), Behaviour(reset=True))
    await stack.post()

    reply = await stack.post()

    assert reply.status_code == 200, reply.text
    events = await stack.settled(2)
    assert [event.attempts for event in events] == [1, 2]
    assert [attempt.id for attempt in stack.engine.attempts[1:]] == [
        f"{events[1].id}.1",
        f"{events[1].id}.2",
    ]


@pytest.mark.parametrize("status", [502, 503])
async def test_an_engine_without_a_replica_is_asked_once_more(stack: Stack, status: int) -> None:
    stack.engine.behave(Behaviour(status=status))

    assert (await stack.post()).status_code == 200
    [event] = await stack.settled()
    assert (event.attempts, event.ending) == (2, Ending.COMPLETED)


async def test_an_engine_that_stays_unavailable_is_not_asked_for_ever(stack: Stack) -> None:
    stack.engine.behave(Behaviour(status=503), Behaviour(status=503))

    reply = await stack.post()

    assert error_of(reply) == (503, "upstream_busy")
    assert reply.headers["retry-after"] == "1"
    [event] = await stack.settled()
    assert (event.attempts, event.tokens.total) == (2, 0)


async def test_a_reply_that_broke_off_after_it_began_is_not_asked_for_again(stack: Stack) -> None:
    stack.engine.behave(Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"))

    assert error_of(await stack.post()) == (502, "upstream_failed")
    [event] = await stack.settled()
    assert event.attempts == 1


# The money goes --------------------------------------------------------------------------------------------


async def test_a_stream_ends_cleanly_when_the_money_does(stack: Stack) -> None:
    # Each token is a micro-unit. The prompt's bound is the body's bytes, trued up at the first chunk.
    stack.account.fund(stack_hold := 120)
    stack.engine.behave(Behaviour(tokens=400, before_each_seconds=0.001))

    *chunks, usage, done = await stack.events_of(stream_options={"include_usage": True})

    assert done == "[DONE]"
    assert isinstance(usage, dict)
    assert usage["choices"] == []
    last = chunks[-1]
    assert isinstance(last, dict)
    assert last["choices"][0]["finish_reason"] == "length"
    [event] = await stack.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    assert usage["usage"]["completion_tokens"] == event.tokens.output
    words = "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if isinstance(chunk, dict)
    ).split()
    assert len(words) == event.tokens.output
    assert event.tokens.total <= stack_hold
    assert event.tokens.total > stack_hold - 10, "money was left over"
    await eventually(lambda: stack.engine.last.ending == "aborted")


async def test_what_a_plain_request_may_generate_is_clamped_to_what_money_can_pay(stack: Stack) -> None:
    stack.account.fund(120)
    stack.engine.behave(Behaviour(tokens=400))

    reply = await stack.post(max_tokens=400)

    assert reply.status_code == 200, reply.text
    clamped = stack.engine.last.body["max_tokens"]
    assert 1 <= clamped < 120
    [event] = await stack.settled()
    assert event.tokens.output == clamped


async def test_a_long_stream_is_paid_slice_by_slice(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=100))

    *_, done = await stack.events_of()

    assert done == "[DONE]"
    [event] = await stack.settled()
    assert (event.ending, event.tokens.output) == (Ending.COMPLETED, 100)


async def test_a_key_that_is_revoked_ends_its_running_stream(stack: Stack) -> None:
    stack.engine.behave(SLOW)
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        text, revoked = "", False
        async for piece in reply.aiter_text():
            text += piece
            # More than one event may come in a piece.
            if text.count("\n\n") >= 3 and not revoked:
                revoked = True
                stack.account.push_key(status=KeyStatus.REVOKED)

    [event] = await stack.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    assert event.tokens.output <= 16, "it ran for more than the slice it had"
    assert parsed(text)[-1] == "[DONE]" or error_event(parsed(text)) == "revoked"


async def test_a_plan_s_window_that_says_stop_ends_the_stream_that_uses_it_up(stack: Stack) -> None:
    of_tokens = Window(seconds=3600, shape=WindowShape.FIXED, unit=WindowUnit.TOKENS)
    stack.account.push_key(limits=[Limit(kind=LimitKind.WINDOW, ceiling=400, window=of_tokens, stop=True)])
    stack.engine.behave(Behaviour(tokens=100_000, before_each_seconds=0.005))
    *_, last, done = await stack.events_of()
    assert isinstance(last, dict)
    assert (last["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
    [event] = await stack.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    assert event.tokens.total >= 400
    assert (await stack.post()).json()["error"]["limit"].startswith("window-fixed-3600-tokens")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_key_that_is_revoked_ends_what_has_no_token_yet(stack: Stack, streamed: bool) -> None:
    stack.engine.behave(Behaviour(before_first_seconds=60))
    asking = asyncio.create_task(stack.post(stream=streamed))
    await eventually(lambda: stack.engine.attempts)
    stack.account.push_key(status=KeyStatus.REVOKED)
    assert error_of(await asking) == (401, "revoked")
    [event] = await stack.settled()
    assert (event.ending, event.tokens.total) == (Ending.BUDGET_STOPPED, 0)
    await eventually(lambda: stack.engine.last.ending == "aborted")


async def test_a_lease_that_was_taken_away_ends_its_stream(stack: Stack) -> None:
    stack.engine.behave(Behaviour(tokens=100, before_each_seconds=0.1))
    async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        text = ""
        async for piece in reply.aiter_text():
            text += piece
            if text.count("\n\n") >= 3 and stack.meter.running:
                [lease] = stack.meter.running.values()
                lease.revoked.set()

    assert error_event(parsed(text)) == "revoked"
    [event] = await stack.settled()
    assert event.ending is Ending.BUDGET_STOPPED
