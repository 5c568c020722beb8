"""vLLM's stream of a transcription, as it is and as it may not be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects.dialect import BadChunk, NoCompletion
from headrace_gateway.dialects.running_counts import read_counts
from headrace_gateway.dialects.transcript import OPENAI
from headrace_gateway.dialects.transcript_stream import TranscriptEvents, read_transcript

DONE = "data: [DONE]\n\n"


def chunk(text: str | None, prompt: int, output: int, finish: str | None = None) -> str:
    choices: list[dict[str, Any]] = []
    if text is not None:
        choices = [{"delta": {"content": text}} | ({} if finish is None else {"finish_reason": finish})]
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return f"data: {json.dumps({'id': 'a', 'created': 1, 'choices': choices, 'usage': usage})}\n\n"


def reader() -> TranscriptEvents:
    return TranscriptEvents(OPENAI, model="glm-asr", cached_tokens=None)


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 20)), min_size=1, max_size=6))
def test_clips_add_up_to_all_that_was_read_and_said(clips: list[tuple[int, int]]) -> None:
    output, events, said = 0, "", ""
    for prompt, tokens in clips:
        for number in range(1, tokens + 1):
            output += 1
            said += f" {output}"
            events += chunk(f" {output}", prompt, output, "stop" if number == tokens else None)
    events += chunk(None, clips[-1][0], output) + DONE

    heard = read_transcript(events.encode(), model="glm-asr")

    assert heard.text == said
    assert heard.usage is not None
    counts = read_counts(heard.usage)
    assert (counts.prompt_tokens, counts.completion_tokens) == (sum(prompt for prompt, _ in clips), output)


def test_a_stream_that_is_cut_says_what_was_given_and_nothing_else() -> None:
    events = reader()
    first = events.take(chunk("one", 7, 1).strip().encode())
    assert first is not None
    events.handed_on(first)
    events.take(chunk("two", 7, 2).strip().encode())
    # Also where the engine had told the last count already, and the client not got it.
    events.take(chunk(None, 7, 3).strip().encode())

    told = json.loads(events.cut_short(first.usage).removeprefix(b"data: "))

    assert (told["text"], told["finish_reason"]) == ("one", "length")
    assert told["usage"]["output_tokens"] == 1


def test_without_counts_each_chunk_is_a_token_at_least() -> None:
    events = reader()
    for number in range(1, 4):
        taken = events.take(b'data: {"choices": [{"delta": {"content": "a"}}]}')
        assert taken is not None
        assert (taken.usage, taken.output_tokens) == (None, number)


@pytest.mark.parametrize(
    "payload",
    ["{}", "[]", "hello", '{"error": {"message": "died"}}', '{"choices": 1}', '{"choices": [], "usage": 1}'],
)
def test_what_is_no_event_of_a_transcript_is_none(payload: str) -> None:
    with pytest.raises(BadChunk):
        reader().take(f"data: {payload}".encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"text": "hello", "usage": {"type": "duration", "seconds": 1}}',
        chunk("a", 7, 1).encode(),
    ],
)
def test_what_is_no_whole_stream_is_no_transcript(body: bytes) -> None:
    with pytest.raises(NoCompletion):
        read_transcript(body, model="glm-asr")
