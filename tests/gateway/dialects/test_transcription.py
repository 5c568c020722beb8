"""Forms that ask for a transcript: what of them reaches an engine, and what is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects.audio import AUDIO_BYTES_MAX
from headrace_gateway.dialects.forms import CONTENT_TYPE, Form, decode_form, encode_form, written
from headrace_gateway.dialects.transcription import decode_openai
from headrace_gateway.errors import BodyTooLarge, InvalidRequest
from tests.support.forms import form_of

MODEL = ("model", "glm-asr")


def test_a_recording_may_have_25_mib_and_no_byte_more() -> None:
    largest = b"ID3" + bytes(AUDIO_BYTES_MAX - 3)
    assert len(decode_openai(encode_form(Form([MODEL], memoryview(largest)))).audio) == AUDIO_BYTES_MAX
    with pytest.raises(BodyTooLarge):
        decode_openai(encode_form(Form([MODEL], memoryview(largest + b"\0"))))


@given(st.lists(st.tuples(st.sampled_from(("model", "prompt", "a[]")), st.text())), st.binary())
def test_a_form_is_kept_as_it_came(fields: list[tuple[str, str]], file: bytes) -> None:
    assert decode_form(encode_form(Form(fields, memoryview(file)))) == Form(fields, memoryview(file))


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), st.binary())
def test_what_an_engine_gets_is_read_by_it_as_it_was_meant(prompt: str, file: bytes) -> None:
    read = form_of(CONTENT_TYPE.decode(), written([("prompt", prompt)], memoryview(file)))
    assert read["prompt"] == prompt
    assert read.keys() == {"prompt", "file"}


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=8), st.binary(max_size=60))
def test_whatever_a_form_says_it_is_a_request_or_refused(fields: list[tuple[str, str]], file: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_openai(encode_form(Form([*fields, ("temperature", "warm")], memoryview(file))))
