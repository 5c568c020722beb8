"""Audio in prompts: heard where the model hears, held by how long it is, and never fetched from anywhere."""

import base64
import json
from typing import Any

import pytest

from headrace_contracts.deployments import Hearing, Task
from headrace_contracts.usage import Dialect
from tests.gateway.account import MODEL
from tests.gateway.dialects.recordings import MP3, wav
from tests.gateway.http.stack import Stack

HEARING = Hearing(token_milliseconds=80, seconds_max=480)
SECOND = base64.b64encode(wav(1.0)).decode()
SECOND_TOKENS = 1000 // 80 + 2

OPENAI, ANTHROPIC, ZAI = "/v1/chat/completions", "/v1/messages", "/api/paas/v4/chat/completions"
GIVEN = {"type": "input_audio", "input_audio": {"data": SECOND, "format": "wav"}}
INLINE = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{SECOND}"}}


@pytest.fixture(params=[Task.TRANSCRIBE, Task.GENERATE])
def hears(stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """Models that write down speech answer prompts about it too."""
    stack.offer(task=request.param, hearing=HEARING)
    return stack


def messages(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is said?"}]}]


@pytest.mark.parametrize("part", [GIVEN, INLINE])
@pytest.mark.parametrize("path", [OPENAI, ZAI])
async def test_audio_reaches_a_model_that_hears_as_it_came(
    hears: Stack, path: str, part: dict[str, Any]
) -> None:
    asked = messages(part)
    reply = await hears.http.post(path, json={"model": MODEL, "messages": asked, "max_tokens": 5})

    assert reply.status_code == 200, reply.text
    assert hears.engine.last.path == OPENAI
    assert hears.engine.last.body["messages"] == asked
    [event] = await hears.settled()
    assert event.dialect is (Dialect.ZAI_CHAT if path == ZAI else Dialect.OPENAI_CHAT)
    assert event.tokens.total == 12


@pytest.mark.parametrize("part", [GIVEN, INLINE])
async def test_audio_is_held_by_its_length_and_not_by_its_bytes(hears: Stack, part: dict[str, Any]) -> None:
    body = {"model": MODEL, "messages": messages(part), "max_tokens": 5}
    text = len(json.dumps(body["messages"], separators=(",", ":"))) - len(SECOND)
    hears.account.fund(SECOND_TOKENS)
    assert (await hears.http.post(OPENAI, json=body)).status_code == 402
    hears.account.fund(SECOND_TOKENS + text + 20)
    assert (await hears.http.post(OPENAI, json=body)).status_code == 200
    await hears.settled()


@pytest.mark.parametrize("path", [OPENAI, ZAI])
async def test_a_model_that_does_not_hear_says_so(stack: Stack, path: str) -> None:
    for offered in ({}, {"image_tokens_max": 50}):
        stack.offer(**offered)
        reply = await stack.http.post(path, json={"model": MODEL, "messages": messages(GIVEN)})
        error = reply.json()["error"]
        assert (reply.status_code, "not_offered" in error.values()) == (400, True)
        assert "Send what was said as text" in error["message"]
    assert stack.engine.attempts == []
    assert stack.account.events() == []


@pytest.mark.parametrize(
    "path", [ANTHROPIC, "/v1/responses", f"{ANTHROPIC}/count_tokens", "/api/paas/v4/tokenizer"]
)
async def test_dialects_that_have_no_word_for_audio_take_none(stack: Stack, path: str) -> None:
    stack.offer(hearing=HEARING)
    asked = messages(GIVEN)
    body = {"input": asked} if path == "/v1/responses" else {"messages": asked, "max_tokens": 5}
    reply = await stack.http.post(path, json={"model": MODEL, **body})

    assert reply.status_code == 400
    assert "Send what was said as text" in reply.json()["error"]["message"]
    assert stack.engine.attempts == []


@pytest.mark.parametrize(
    "part",
    [
        {"type": "audio_url", "audio_url": {"url": "http://169.254.169.254/"}},
        {"type": "audio_url", "audio_url": "https://example.com/a.wav"},
        {"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}},
        {"type": "audio_url", "audio_url": {"url": "DATA:audio/wav;base64,AAAA"}},
        {"type": "audio_url", "audio_url": {"url": f"data:text/html;base64,{SECOND}"}},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;x=y,AAAA;base64,{SECOND}"}},
        {"type": "input_audio", "input_audio": {"data": SECOND, "format": "wav;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": SECOND}},
        {"type": "input_audio", "input_audio": {"data": "not base64!", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}},
        {"type": "input_audio", "input_audio": SECOND},
        {**GIVEN, "uuid": "another"},
        {**GIVEN, "audio_url": {"url": "http://169.254.169.254/"}},
        {**GIVEN, "image_url": {"url": "http://169.254.169.254/"}},
        {"audio_url": {"url": "http://169.254.169.254/"}},
        {"type": "text", "text": "", "audio_url": {"url": "http://169.254.169.254/"}},
        {"type": "audio", "source": {"type": "base64", "media_type": "audio/wav", "data": SECOND}},
    ],
)
async def test_nothing_that_is_not_one_recording_of_its_own_reaches_an_engine(
    stack: Stack, part: dict[str, Any]
) -> None:
    stack.offer(hearing=HEARING, image_tokens_max=50)
    for each in (part, {"type": "tool_result", "content": [part]}):
        reply = await stack.http.post(OPENAI, json={"model": MODEL, "messages": messages(each)})
        assert reply.status_code == 400, reply.text
    assert stack.engine.attempts == []
    assert stack.account.events() == []


async def test_what_does_not_tell_its_length_is_held_for_the_longest(stack: Stack) -> None:
    stack.offer(hearing=HEARING)
    spoken = {"data": base64.b64encode(MP3).decode(), "format": "mp3"}
    body = {"model": MODEL, "messages": messages({"type": "input_audio", "input_audio": spoken})}
    stack.account.fund(6000)
    assert (await stack.http.post(OPENAI, json=body | {"max_tokens": 5})).status_code == 402
    stack.account.fund(6300)
    assert (await stack.http.post(OPENAI, json=body | {"max_tokens": 5})).status_code == 200
    await stack.settled()
