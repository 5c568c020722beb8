"""Recordings that are written down: OpenAI's client unmodified, held, metered and settled like anything else."""

import asyncio
import json
from typing import Any

import httpx2 as httpx
import openai
import pytest

from headrace_contracts.access import Limit, LimitKind
from headrace_contracts.deployments import Hearing, Task
from headrace_contracts.usage import Dialect, Ending, TokenCounts
from tests.gateway.account import MODEL
from tests.gateway.dialects.recordings import MP3, wav
from tests.gateway.http.stack import AUDIO_BODY_BYTES_MAX, Stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour

PATH = "/v1/audio/transcriptions"
HEARING = Hearing(token_milliseconds=80, seconds_max=480)
SECOND = wav(1.0)
SECOND_TOKENS = 1000 // 80 + 2
"""What is held for it: the bound has a token to spare, and the header counts as samples."""


@pytest.fixture
def hearer(stack: Stack) -> Stack:
    stack.offer(task=Task.TRANSCRIBE, hearing=HEARING)
    return stack


async def posted(stack: Stack, file: bytes | None = SECOND, **fields: str) -> httpx.Response:
    files = {} if file is None else {"file": ("speech.wav", file)}
    return await stack.http.post(PATH, data={"model": MODEL, **fields}, files=files or {"x": b""})


def said(count: int) -> str:
    return "".join(f" word{number}" for number in range(1, count + 1))


async def test_a_transcript_in_one_piece_with_its_tokens(hearer: Stack) -> None:
    heard = await hearer.openai.audio.transcriptions.create(
        model="glm-alias", file=("speech.wav", SECOND), language="en", prompt="Names: Ada", temperature=0.5
    )

    assert heard.text == said(5)
    assert heard.usage is not None
    assert heard.usage.model_dump(exclude_none=True) == {
        "type": "tokens",
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
    }
    assert hearer.engine.last.path == PATH
    assert hearer.engine.last.body == {
        "model": "engine-name",
        "file": SECOND,
        "language": "en",
        "prompt": "Names: Ada",
        "temperature": "0.5",
        "response_format": "json",
        "stream": "true",
        "stream_include_usage": "true",
        "stream_continuous_usage_stats": "true",
    }
    [event] = await hearer.settled()
    assert (event.dialect, event.ending) == (Dialect.OPENAI_TRANSCRIPTIONS, Ending.COMPLETED)
    assert event.tokens == TokenCounts(input_uncached=7, output_visible=5)
    assert (hearer.engine.last.prompt, hearer.engine.last.yielded) == (7, 5)


async def test_a_transcript_as_it_is_heard(hearer: Stack) -> None:
    stream = await hearer.openai.audio.transcriptions.create(
        model=MODEL, file=("speech.wav", SECOND), stream=True
    )
    events = [each async for each in stream]

    *deltas, done = events
    assert [(each.type, each.delta) for each in deltas if each.type == "transcript.text.delta"] == [
        ("transcript.text.delta", f" word{number}") for number in range(1, 6)
    ]
    assert done.type == "transcript.text.done"
    assert done.text == said(5)
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (7, 5, 12)
    [event] = await hearer.settled()
    assert event.tokens == TokenCounts(input_uncached=7, output_visible=5)


async def test_a_transcript_as_bare_text(hearer: Stack) -> None:
    heard = await hearer.openai.audio.transcriptions.create(
        model=MODEL, file=("speech.wav", SECOND), response_format="text"
    )
    assert str(heard) == said(5)
    reply = await posted(hearer, response_format="text")
    assert (reply.headers["content-type"], reply.text) == ("text/plain; charset=utf-8", said(5))
    await hearer.settled(2)


@pytest.mark.parametrize("streamed", [False, True])
async def test_of_a_recording_in_clips_every_prompt_counts_once(hearer: Stack, streamed: bool) -> None:
    hearer.engine.behave(Behaviour(clips=3, tokens=2))

    reply = await posted(hearer, stream=str(streamed).lower())

    assert reply.status_code == 200, reply.text
    [event] = await hearer.settled()
    assert event.tokens == TokenCounts(input_uncached=3 * 7, output_visible=3 * 2)
    assert (hearer.engine.last.prompt, hearer.engine.last.yielded) == (3 * 7, 3 * 2)


@pytest.mark.parametrize("streamed", ["false", "true"])
async def test_counts_above_events_tell_what_was_cached_of_every_clip(hearer: Stack, streamed: str) -> None:
    hearer.engine.behave(Behaviour(clips=3, tokens=2, running_counts=True))
    await posted(hearer, stream=streamed)
    [event] = await hearer.settled()
    assert event.tokens == TokenCounts(input_uncached=3 * 4, cache_read=3 * 3, output_visible=3 * 2)


async def test_one_who_hangs_up_pays_for_what_was_heard_until_then(hearer: Stack) -> None:
    hearer.engine.behave(Behaviour(tokens=50, hang_after=3))
    stream = await hearer.openai.audio.transcriptions.create(
        model=MODEL, file=("speech.wav", SECOND), stream=True
    )
    heard = 0
    async for _ in stream:
        heard += 1
        if heard == 3:
            break
    await stream.close()

    [event] = await hearer.settled()
    assert (event.ending, event.tokens) == (
        Ending.CLIENT_GONE,
        TokenCounts(input_uncached=7, output_visible=3),
    )
    await eventually(lambda: hearer.engine.last.ending == "aborted")


@pytest.mark.parametrize("failure", [{"break_after": 2}, {"end_after": 2}, {"error_event_after": 2}])
async def test_an_engine_that_dies_in_between_is_not_paid_for_half_an_answer_in_one_piece(
    hearer: Stack, failure: dict[str, Any]
) -> None:
    hearer.engine.behave(Behaviour(**failure))
    reply = await posted(hearer)

    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    [event] = await hearer.settled()
    assert (event.ending, event.tokens.total) == (Ending.UPSTREAM_FAILED, 0)


async def test_a_stream_that_breaks_off_says_so_and_counts_what_was_given(hearer: Stack) -> None:
    hearer.engine.behave(Behaviour(break_after=2))
    reply = await posted(hearer, stream="true")

    last = json.loads(reply.text.strip().rpartition("data: ")[2])
    assert last["error"]["code"] == "upstream_failed"
    [event] = await hearer.settled()
    assert (event.ending, event.tokens.output_visible) == (Ending.UPSTREAM_FAILED, 2)


@pytest.mark.parametrize("first", [Behaviour(status=502), Behaviour(status=503)])
async def test_an_engine_that_did_not_begin_is_asked_again_and_charged_once(
    hearer: Stack, first: Behaviour
) -> None:
    hearer.engine.behave(first)
    reply = await posted(hearer)

    assert reply.status_code == 200, reply.text
    one, other = hearer.engine.attempts
    assert one.body == other.body
    assert one.id != other.id
    [event] = await hearer.settled()
    assert event.tokens.total == 12


async def test_usage_that_was_cached_is_told_apart(hearer: Stack) -> None:
    hearer.engine.behave(Behaviour(cached_header=True))
    await posted(hearer, stream="true")
    [event] = await hearer.settled()
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=5)


async def test_an_engine_that_counts_nothing_underway_is_settled_by_its_last_word(hearer: Stack) -> None:
    hearer.engine.behave(Behaviour(continuous_usage=False), Behaviour(continuous_usage=False))
    await posted(hearer)
    await posted(hearer, stream="true")
    assert [each.tokens.total for each in await hearer.settled(2)] == [12, 12]


async def test_the_hold_covers_what_is_heard_to_the_token(hearer: Stack) -> None:
    fields = {"max_completion_tokens": "5"}
    hearer.account.fund(SECOND_TOKENS)
    reply = await posted(hearer, SECOND, **fields)
    assert (reply.status_code, reply.json()["error"]["code"]) == (402, "insufficient_balance")
    assert hearer.engine.attempts == []
    assert hearer.account.money()[1] == 0

    # Of all that is left one token may be said.
    hearer.account.fund(SECOND_TOKENS + 1)
    reply = await posted(hearer, SECOND, **fields)
    assert reply.status_code == 200
    assert hearer.engine.last.body["max_completion_tokens"] == "1"
    [event] = await hearer.settled()
    assert event.tokens == TokenCounts(input_uncached=7, output_visible=1)


async def test_what_does_not_tell_its_length_is_held_for_the_longest(hearer: Stack) -> None:
    longest = HEARING.seconds_max * 1000 // HEARING.token_milliseconds + 1
    hearer.account.fund(longest)
    assert (await posted(hearer, MP3)).status_code == 402
    hearer.account.fund(longest + 10)
    assert (await posted(hearer, MP3)).status_code == 200
    await hearer.settled()


async def test_a_stream_whose_money_ends_says_what_was_heard_until_then(hearer: Stack) -> None:
    hearer.engine.behave(Behaviour(tokens=60))
    hearer.account.fund(7 + 8 + 8)
    reply = await posted(hearer, stream="true")

    [event] = await hearer.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    count = event.tokens.output_visible
    assert 0 < count < 60
    *_, done, end = [block.removeprefix("data: ") for block in reply.text.split("\n\n") if block]
    assert end == "[DONE]"
    assert json.loads(done) == {
        "type": "transcript.text.done",
        "text": said(count),
        "finish_reason": "length",
        "usage": {
            "type": "tokens",
            "input_tokens": 7,
            "output_tokens": count,
            "total_tokens": 7 + count,
        },
    }


@pytest.mark.parametrize("streamed", ["true", "false"])
async def test_a_transcript_that_filled_the_context_says_so(hearer: Stack, streamed: str) -> None:
    hearer.engine.behave(Behaviour(finish="length"))
    reply = await posted(hearer, stream=streamed)
    assert '"finish_reason":"length"' in reply.text
    await hearer.settled()


async def test_limits_of_requests_hold_here_too(hearer: Stack) -> None:
    hearer.account.push_key(limits=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=1)])
    assert (await posted(hearer)).status_code == 200
    reply = await posted(hearer)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limited")
    await hearer.settled()


async def test_a_repeated_form_is_answered_again_whatever_stands_between_its_parts(hearer: Stack) -> None:
    for _ in range(2):
        heard = await hearer.openai.audio.transcriptions.create(
            model=MODEL, file=("speech.wav", SECOND), extra_headers={"idempotency-key": "once"}
        )
        assert heard.text == said(5)
    await hearer.settled()
    assert len(hearer.engine.attempts) == 1

    reply = await hearer.http.post(
        PATH, data={"model": MODEL}, files={"file": wav(2.0)}, headers={"idempotency-key": "once"}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("file", "fields", "param", "says"),
    [
        (None, {}, "file", "missing"),
        (b"", {}, "file", "empty"),
        (b"hello, you", {}, "file", "WAV, MP3, FLAC or Ogg"),
        (wav(490, rate=8000)[: AUDIO_BODY_BYTES_MAX // 8], {"stream": "maybe"}, "stream", "true"),
        (SECOND, {"temperature": "warm"}, "temperature", "number"),
        (SECOND, {"max_completion_tokens": "0"}, "max_completion_tokens", "from 1"),
        (SECOND, {"response_format": "srt"}, "response_format", "`json` or `text`"),
        (SECOND, {"response_format": "verbose_json"}, "response_format", "`json` or `text`"),
        (SECOND, {"hotwords": json.dumps(["a"] * 101)}, "hotwords", "at most 100"),
        (SECOND, {"model": ""}, "model", "characters"),
    ],
)
async def test_what_can_t_be_written_down(
    hearer: Stack, file: bytes | None, fields: dict[str, str], param: str, says: str
) -> None:
    reply = await posted(hearer, file, **fields)

    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert says in error["message"]
    assert hearer.engine.attempts == []
    assert hearer.account.events() == []


async def test_a_recording_that_is_too_long_is_refused_before_anything_is_held(hearer: Stack) -> None:
    hearer.offer(task=Task.TRANSCRIBE, hearing=Hearing(token_milliseconds=80, seconds_max=3))
    reply = await posted(hearer, wav(6))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "file")
    assert "at most 3 s" in reply.json()["error"]["message"]
    assert hearer.account.money()[1] == 0


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("application/json", b"{}", "multipart/form-data"),
        ("multipart/form-data", b"", "boundary"),
        ("multipart/form-data; boundary=x", b"", "no form"),
        ("multipart/form-data; boundary=x", b"hello", "no form"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nhello\r\n--x--\r\n", "must have a name"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nglm',
            "last boundary",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--x--\r\n',
            "UTF-8",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n' * 2 + b"--x--\r\n",
            "one file",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na\r\n' * 65 + b"--x--\r\n",
            "at most 64",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n%b\r\n--x--\r\n' % (b"a" * 65537),
            "65536 bytes",
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x--", "no form"),
    ],
)
async def test_a_body_that_is_no_form(hearer: Stack, content_type: str, body: bytes, says: str) -> None:
    reply = await hearer.http.post(PATH, content=body, headers={"content-type": content_type})

    assert reply.status_code == 400, reply.text
    assert says in reply.json()["error"]["message"]
    assert hearer.account.events() == []


async def test_a_file_can_not_write_fields_for_the_engine(hearer: Stack) -> None:
    inside = b'\r\n--x\r\nContent-Disposition: form-data; name="stream"\r\n\r\nfalse\r\n--x--\r\n'
    await posted(hearer, SECOND + inside)
    assert hearer.engine.last.body["stream"] == "true"
    assert hearer.engine.last.body["file"] == SECOND + inside
    await hearer.settled()


async def test_fields_that_nobody_named_reach_no_engine(hearer: Stack) -> None:
    hidden = {"n": "4", "use_beam_search": "true", "priority": "1", "vllm_xargs": "{}", "to_language": "de"}
    reply = await posted(hearer, SECOND, **hidden)
    assert reply.status_code == 200
    assert hidden.keys().isdisjoint(hearer.engine.last.body)
    await hearer.settled()


async def test_a_recording_that_is_too_large(hearer: Stack) -> None:
    reply = await posted(hearer, wav(100))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")
    assert hearer.account.events() == []


async def test_no_more_recordings_are_held_than_there_is_room_for(hearer: Stack) -> None:
    release = asyncio.Event()
    hearer.engine.behave(*[Behaviour(begins=release)] * 2)
    large = wav(AUDIO_BODY_BYTES_MAX * 0.9 / 32_000)
    asked = [asyncio.create_task(posted(hearer, large)) for _ in range(3)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    release.set()
    replies = await asyncio.gather(*asked)
    assert sorted(each.status_code for each in replies) == [200, 200, 503]
    assert (await posted(hearer, large)).status_code == 200
    await hearer.settled(3)


async def test_a_model_is_asked_only_for_what_it_is_for(stack: Stack) -> None:
    reply = await posted(stack)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_offered")

    stack.offer(task=Task.TRANSCRIBE, hearing=HEARING)
    for path, fields in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("/v1/embeddings", {"input": "hello"}),
    ):
        reply = await stack.http.post(path, json={"model": MODEL, **fields})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_offered")
        assert PATH in reply.json()["error"]["message"]

    # Whose record says nothing of hearing can't be held for.
    stack.offer(task=Task.TRANSCRIBE)
    assert (await posted(stack)).json()["error"]["code"] == "not_offered"
    assert stack.engine.attempts == []
    assert stack.account.events() == []


async def test_models_tell_what_they_are_for(hearer: Stack) -> None:
    [model] = (await hearer.openai.models.list()).data
    assert model.model_dump()["task"] == "transcribe"


async def test_unknown_models_and_keys_are_refused_as_anywhere(hearer: Stack) -> None:
    reply = await posted(hearer, model="glm-none")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    stranger = openai.AsyncOpenAI(base_url=f"{hearer.url}/v1", api_key="hr-" + "x" * 43, max_retries=0)
    async with stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.audio.transcriptions.create(model=MODEL, file=("speech.wav", SECOND))
    assert hearer.account.events() == []
