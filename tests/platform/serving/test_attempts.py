"""What is counted for one attempt, and when its records are written."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.engine import EngineEnding
from headrace_platform.serving import attempts
from headrace_platform.serving.asgi import Message, Receive, Scope, Send
from headrace_platform.serving.attempt_scope import AttemptScope
from headrace_platform.serving.attempts import PROBE_NAME_CHARACTERS_MAX, Attempt, gateway_attempt
from tests.platform.serving.records import ATTEMPT, Kept

FINISHED, ABORTED, FAILED, STARTED = (
    EngineEnding.FINISHED,
    EngineEnding.ABORTED,
    EngineEnding.FAILED,
    EngineEnding.STARTED,
)


@pytest.mark.parametrize("attempt", [ATTEMPT, ATTEMPT[:-1] + "12"])
def test_the_gateway_s_attempt_is_known_by_its_shape(attempt: str) -> None:
    assert gateway_attempt(attempt) == attempt


@pytest.mark.parametrize(
    "stranger",
    [None, "", "42", ATTEMPT[:-2], ATTEMPT + " ", ATTEMPT + "\n", ATTEMPT.upper(), f"chatcmpl-{ATTEMPT}"],
)
def test_any_other_request_id_is_a_stranger_s(stranger: str | None) -> None:
    assert gateway_attempt(stranger) is None


def test_an_attempt_is_recorded_when_the_engine_is_asked_and_when_it_ended() -> None:
    kept = Kept()
    attempt = kept.recorder().attempt(ATTEMPT)
    part = attempt.part("chatcmpl-1", prompt_tokens=15)
    assert kept.endings == [STARTED]
    assert kept.last.prompt == 15

    part.read(prompt=15, cached=8)
    part.yielded(0, 3, cumulative=False)
    part.yielded(0, 2, cumulative=False)
    part.end(FINISHED)
    attempt.close()

    assert kept.endings == [STARTED, FINISHED]
    assert (kept.last.prompt, kept.last.cached, kept.last.output) == (15, 8, 5)
    assert kept.last.attempt == kept[0].attempt == ATTEMPT
    assert not kept.last.probe
    assert kept.last.started_at_us == kept[0].started_at_us
    assert kept.last.finished_at_us is not None


def test_a_request_that_never_reaches_the_engine_leaves_no_record() -> None:
    kept = Kept()
    kept.recorder().attempt(ATTEMPT).close()
    assert kept == []


def test_a_request_that_the_engine_turns_away_has_used_nothing() -> None:
    kept = Kept()
    attempt = kept.recorder().attempt(ATTEMPT)
    attempt.part("chatcmpl-1", prompt_tokens=15).end(FAILED)
    attempt.close()
    assert (kept.last.ending, kept.last.prompt, kept.last.output) == (FAILED, 0, 0)


def test_output_that_is_told_whole_each_time_is_not_added_up() -> None:
    kept = Kept()
    attempt = kept.recorder().attempt(ATTEMPT)
    part = attempt.part("cmpl-1", prompt_tokens=2)
    part.yielded(0, 3, cumulative=True)
    part.yielded(0, 5, cumulative=True)
    part.end(FINISHED)
    attempt.close()
    assert kept.last.output == 5


@given(
    parts=st.lists(
        st.tuples(
            st.integers(1, 500),
            st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=20),
        ),
        min_size=1,
        max_size=5,
    ),
    http_ends_first=st.booleans(),
)
def test_the_parts_of_a_request_make_one_sum(
    parts: list[tuple[int, list[tuple[int, int]]]], *, http_ends_first: bool
) -> None:
    kept = Kept()
    attempt = kept.recorder().attempt(ATTEMPT)
    running = [
        attempt.part(f"cmpl-{number}", prompt_tokens=prompt) for number, (prompt, _) in enumerate(parts)
    ]
    if http_ends_first:
        attempt.close()
    for part, (prompt, outputs) in zip(running, parts, strict=True):
        part.read(prompt=prompt, cached=0)
        for choice, tokens in outputs:
            part.yielded(choice, tokens, cumulative=False)
        assert kept.endings == [STARTED], "the request goes on, and a record told its end"
        part.end(FINISHED)
    if not http_ends_first:
        attempt.close()

    assert kept.endings == [STARTED, FINISHED]
    assert kept.last.prompt == sum(prompt for prompt, _ in parts)
    assert kept.last.output == sum(tokens for _, outputs in parts for _, tokens in outputs)


def test_the_worst_end_of_the_parts_is_the_attempt_s() -> None:
    kept = Kept()
    attempt = kept.recorder().attempt(ATTEMPT)
    for ending in (FINISHED, ABORTED, FINISHED):
        attempt.part("cmpl-1", prompt_tokens=1).end(ending)
    attempt.close()
    assert kept.last.ending is ABORTED


def test_two_probes_with_one_header_are_told_apart() -> None:
    kept = Kept()
    for _ in range(2):
        attempt = kept.recorder().attempt("health-check")
        attempt.part("chatcmpl-health-check", prompt_tokens=1).end(FINISHED)
        attempt.close()
    names = {record.attempt for record in kept}
    assert len(names) == 2
    assert all(name.startswith("chatcmpl-health-check-") for name in names)
    assert all(record.probe for record in kept)


def test_a_probe_s_name_has_a_bound() -> None:
    kept = Kept()
    kept.recorder().attempt(None).part("chatcmpl-" + "x" * 100_000, prompt_tokens=1)
    assert len(kept.last.attempt) <= PROBE_NAME_CHARACTERS_MAX + 9


async def test_the_request_s_id_reaches_the_engine_and_goes_with_the_request() -> None:
    kept = Kept()

    async def engine_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        attempt = attempts.current.get()
        assert attempt is not None
        attempt.part("chatcmpl-1", prompt_tokens=3).end(FINISHED)

    await call(AttemptScope(engine_app, kept.recorder()), [(b"X-Request-ID", ATTEMPT.encode())])

    assert [record.attempt for record in kept] == [ATTEMPT, ATTEMPT]
    assert attempts.current.get() is None


async def test_an_attempt_is_closed_when_the_app_fails() -> None:
    kept = Kept()

    async def failing_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        attempt = attempts.current.get()
        assert attempt is not None
        attempt.part("chatcmpl-1", prompt_tokens=3).end(FAILED)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await call(AttemptScope(failing_app, kept.recorder()), [])
    assert kept.endings == [STARTED, FAILED]


async def test_what_runs_for_a_client_that_hung_up_is_stopped() -> None:
    kept = Kept()
    running = asyncio.Event()

    async def generate(attempt: Attempt) -> None:
        task = asyncio.current_task()
        assert task is not None
        part = attempt.part("chatcmpl-1", prompt_tokens=3, stop=task.cancel)
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            part.end(ABORTED)

    async def app_that_leaves_it_to_a_task(_scope: Scope, _receive: Receive, _send: Send) -> None:
        attempt = attempts.current.get()
        assert attempt is not None
        await asyncio.wait([asyncio.create_task(generate(attempt))])

    request = asyncio.create_task(call(AttemptScope(app_that_leaves_it_to_a_task, kept.recorder()), []))
    await running.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await asyncio.sleep(0)
    assert kept.endings == [STARTED, ABORTED]


async def call(app: AttemptScope, headers: list[tuple[bytes, bytes]]) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        raise AssertionError("nothing was to be sent")

    scope: dict[str, Any] = {"type": "http", "headers": headers}
    await app(scope, receive, send)


async def reply_with(*messages: Message, cached: int | None) -> list[Message]:
    """What comes out of the scope when the app sends `messages`, having read a prompt before the last of them."""
    kept, sent = Kept(), []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        attempt = attempts.current.get()
        assert attempt is not None
        part = attempt.part("chatcmpl-1", prompt_tokens=15)
        for message in messages[:-1]:
            await send(message)
        if cached is not None:
            part.read(prompt=15, cached=cached)
        await send(messages[-1])
        part.end(FINISHED)

    async def collect(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await AttemptScope(app, kept.recorder())({"type": "http", "headers": []}, receive, collect)
    return sent


START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}


async def test_a_reply_s_headers_wait_for_its_first_bytes_and_tell_what_was_cached() -> None:
    body: Message = {"type": "http.response.body", "body": b"data: {}", "more_body": True}
    sent = await reply_with(dict(START), body, cached=8)
    assert sent == [{**START, "headers": [(b"a", b"b"), (b"x-headrace-cached-tokens", b"8")]}, body]


async def test_a_reply_that_yielded_nothing_tells_nothing_of_the_cache() -> None:
    empty: Message = {"type": "http.response.body", "body": b"", "more_body": False}
    assert await reply_with(dict(START), empty, cached=None) == [START, empty]
