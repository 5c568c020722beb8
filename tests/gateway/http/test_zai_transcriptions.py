"""Recordings that are written down, by Z.ai's own client, unmodified."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import zai
from zai.core import APIReachLimitError, APIRequestFailedError

from headrace_contracts.deployments import Hearing, Task
from headrace_contracts.usage import Dialect, Ending, TokenCounts
from headrace_gateway.dialects.forms import Form, encode_form
from tests.gateway.account import MODEL
from tests.gateway.dialects.recordings import MP3, wav
from tests.gateway.http.stack import Stack
from tests.support.upstream import Behaviour

Answer = TypeVar("Answer")

PATH = "/api/paas/v4/audio/transcriptions"
SECOND = wav(1.0)
HEARING = Hearing(token_milliseconds=80, seconds_max=480)


@pytest.fixture
def hearer(stack: Stack) -> Stack:
    stack.offer(task=Task.TRANSCRIBE, hearing=HEARING)
    return stack


async def asked(stack: Stack, ask: Callable[[Any], Answer]) -> Answer:
    """The client knows no coroutines, so it works in a thread of its own."""

    def work() -> Answer:
        client = zai.ZaiClient(
            base_url=f"{stack.url}/api/paas/v4", api_key=stack.account.secret, max_retries=0, timeout=20
        )
        try:
            return ask(client.audio.transcriptions)
        finally:
            client.close()  # type: ignore[no-untyped-call]

    return await asyncio.to_thread(work)


async def test_a_transcript_in_one_piece(hearer: Stack) -> None:
    heard = await asked(
        hearer,
        lambda audio: audio.create(
            model=MODEL,
            file=("speech.wav", SECOND),
            prompt="Names",
            hotwords=["Ada"],
            request_id="mine-1",
            user_id="somebody",
        ),
    )

    told = heard.model_dump(exclude_none=True)
    assert told["text"] == " word1 word2 word3 word4 word5"
    assert (told["model"], told["request_id"], told["created"]) == (MODEL, "mine-1", 1_790_000_000)
    assert told["id"]
    engine = hearer.engine.last
    assert engine.path == "/v1/audio/transcriptions"
    assert engine.body["file"] == SECOND
    assert (engine.body["prompt"], engine.body["hotwords"]) == ("Names", "Ada")
    assert {"request_id", "user_id"}.isdisjoint(engine.body)
    [event] = await hearer.settled()
    assert (event.dialect, event.ending) == (Dialect.ZAI_TRANSCRIPTIONS, Ending.COMPLETED)
    assert event.tokens == TokenCounts(input_uncached=7, output_visible=5)


async def test_a_transcript_as_it_is_heard(hearer: Stack) -> None:
    events = await asked(
        hearer,
        lambda audio: [
            each.model_dump(exclude_none=True)
            for each in audio.create(model=MODEL, file=("speech.mp3", MP3), stream=True)
        ],
    )

    *deltas, done = events
    assert [(each["type"], each["delta"]) for each in deltas] == [
        ("transcript.text.delta", f" word{number}") for number in range(1, 6)
    ]
    assert (done["type"], done["text"]) == ("transcript.text.done", " word1 word2 word3 word4 word5")
    assert {each["model"] for each in events} == {MODEL}
    usage = done["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 5, 12)
    [event] = await hearer.settled()
    assert event.tokens == TokenCounts(input_uncached=7, output_visible=5)


@pytest.mark.parametrize("as_form", [True, False])
async def test_a_recording_as_base64(hearer: Stack, as_form: bool) -> None:
    fields = {"model": MODEL, "file_base64": base64.b64encode(SECOND).decode()}
    if as_form:
        reply = await hearer.http.post(PATH, data=fields, files={"other": b"x"})
    else:
        reply = await hearer.http.post(PATH, json=fields | {"stream": False, "hotwords": ["Ada"]})

    assert reply.status_code == 200, reply.text
    assert hearer.engine.last.body["file"] == SECOND
    await hearer.settled()


@pytest.mark.parametrize(
    "hotwords",
    [{"hotwords[]": ["Ada", "Grace"]}, {"hotwords": ["Ada", "Grace"]}, {"hotwords": '["Ada", "Grace"]'}],
)
async def test_words_to_expect_however_a_form_lists_them(
    hearer: Stack, hotwords: dict[str, list[str] | str]
) -> None:
    # The client itself fails with more than one of them beside a file.
    reply = await hearer.http.post(PATH, data={"model": MODEL, **hotwords}, files={"file": SECOND})
    assert reply.status_code == 200, reply.text
    assert hearer.engine.last.body["hotwords"] == "Ada, Grace"
    await hearer.settled()


async def test_of_both_the_file_is_heard(hearer: Stack) -> None:
    other = base64.b64encode(wav(2.0)).decode()
    await asked(hearer, lambda audio: audio.create(model=MODEL, file=("a.wav", SECOND), file_base64=other))
    assert hearer.engine.last.body["file"] == SECOND
    await hearer.settled()


async def test_the_client_s_own_id_is_used_once(hearer: Stack) -> None:
    def ask(audio: Any) -> Any:
        return audio.create(model=MODEL, file=("a.wav", SECOND), request_id="mine-2")

    await asked(hearer, ask)
    with pytest.raises(APIRequestFailedError) as refused:
        await asked(hearer, ask)
    assert refused.value.response.json()["error"]["code"] == "1231"
    await hearer.settled()


async def test_no_balance_leaves_nothing_behind(hearer: Stack) -> None:
    hearer.account.fund(1)
    with pytest.raises(APIReachLimitError) as refused:
        await asked(hearer, lambda audio: audio.create(model=MODEL, file=("a.wav", SECOND)))
    assert refused.value.response.json()["error"]["code"] == "1113"
    assert hearer.account.money()[1] == 0
    assert hearer.engine.attempts == []
    assert hearer.account.events() == []


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({}, "1213", "`file` is missing"),
        ({"file_base64": "not base64!"}, "1214", "base64"),
        ({"file_base64": "aGVsbG8="}, "1214", "WAV, MP3, FLAC or Ogg"),
        ({"file_base64": ""}, "1214", "empty"),
        ({"file_base64": base64.b64encode(SECOND).decode(), "user_id": "me"}, "1214", "6 to 128"),
        ({"file_base64": base64.b64encode(SECOND).decode(), "hotwords": "Ada"}, "1214", "list"),
        ({"file_base64": base64.b64encode(SECOND).decode(), "stream": "yes"}, "1214", "boolean"),
    ],
)
async def test_what_can_t_be_written_down(
    hearer: Stack, fields: dict[str, Any], code: str, says: str
) -> None:
    reply = await hearer.http.post(PATH, json={"model": MODEL, **fields})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert says in reply.json()["error"]["message"]
    assert hearer.account.events() == []


async def test_a_body_that_is_no_form_is_refused_in_its_dialect(hearer: Stack) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    reply = await hearer.http.post(PATH, content=b"hello", headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "1210")


async def test_a_form_can_not_be_sent_as_the_gateway_keeps_it(hearer: Stack) -> None:
    kept = encode_form(Form([("model", MODEL)], memoryview(SECOND)))
    reply = await hearer.http.post(PATH, content=kept, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "1210")
    spaced = b" " + json.dumps({"model": MODEL, "file_base64": base64.b64encode(SECOND).decode()}).encode()
    reply = await hearer.http.post(PATH, content=spaced, headers={"content-type": "application/json"})
    assert reply.status_code == 200, reply.text
    await hearer.settled()


async def test_a_stream_whose_money_ends_says_what_was_heard_until_then(hearer: Stack) -> None:
    hearer.engine.behave(Behaviour(tokens=60))
    hearer.account.fund(7 + 8 + 8)
    fields = {"model": MODEL, "file_base64": base64.b64encode(SECOND).decode(), "stream": True}
    reply = await hearer.http.post(PATH, json=fields)

    [event] = await hearer.settled()
    assert event.ending is Ending.BUDGET_STOPPED
    *_, done, end = [block.removeprefix("data: ") for block in reply.text.split("\n\n") if block]
    told = json.loads(done)
    assert (end, told["type"], told["finish_reason"]) == ("[DONE]", "transcript.text.done", "length")
    assert told["usage"]["completion_tokens"] == event.tokens.output_visible
