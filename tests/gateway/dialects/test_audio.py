"""How long audio is at most: told from its bytes, never less than what an engine then hears."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.deployments import Hearing
from headrace_gateway.dialects.audio import HEAD_BYTES, Clip, clip_tokens_max, read_clip
from headrace_gateway.errors import InvalidRequest
from tests.gateway.dialects.recordings import MP3, wav

HEARING = Hearing(token_milliseconds=80, seconds_max=480)
ENGINE_RATE = 16_000
WINDOW_SAMPLES, FRAME_SAMPLES = 30 * ENGINE_RATE, 160


def clip_of(audio: bytes) -> Clip:
    return read_clip(audio[:HEAD_BYTES], len(audio), param="file")


def heard_tokens(seconds: float) -> int:
    """As GLM-ASR counts: windows of 30 s, a frame each 10 ms, every second one kept, four of them a token."""
    samples, tokens = round(seconds * ENGINE_RATE), 0
    while samples > 0:
        frames = -(-min(samples, WINDOW_SAMPLES) // FRAME_SAMPLES)
        tokens += (frames + 1) // 2 // 4
        samples -= WINDOW_SAMPLES
    return tokens


@given(
    rate=st.integers(1, 400_000),
    channels=st.integers(1, 16),
    sample_bytes=st.integers(1, 4),
    samples=st.integers(0, 3_000),
)
def test_no_recording_lasts_longer_or_counts_more_than_is_held_for_it(
    rate: int, channels: int, sample_bytes: int, samples: int
) -> None:
    seconds = samples / rate
    clip = clip_of(wav(seconds, rate=rate, channels=channels, sample_bytes=sample_bytes))

    if clip.milliseconds is not None:
        assert clip.milliseconds >= seconds * 1000
    assert clip_tokens_max(clip, HEARING) >= heard_tokens(min(seconds, HEARING.seconds_max))


@given(st.floats(0.001, 700))
def test_the_bound_is_that_of_the_model_and_no_more_than_two_tokens_above_it(seconds: float) -> None:
    clip = Clip(-(-round(seconds * ENGINE_RATE) // 16))
    heard = heard_tokens(min(seconds, HEARING.seconds_max))
    # Of a window that is not full the model drops what makes no whole token.
    assert heard <= clip_tokens_max(clip, HEARING) <= heard + 3


def test_plain_samples_tell_their_length_whatever_the_header_claims() -> None:
    audio = bytearray(wav(2.0))
    struct.pack_into("<I", audio, 40, 2)  # as if only one sample came
    struct.pack_into("<I", audio, 28, 10**9)  # as if a second took a gigabyte

    milliseconds = clip_of(bytes(audio)).milliseconds

    assert milliseconds is not None
    assert 2000 <= milliseconds <= 2002


@pytest.mark.parametrize(
    "audio",
    [
        MP3,
        b"ID3" + bytes(100),
        b"fLaC" + bytes(100),
        b"OggS" + bytes(100),
        wav(rate=96_000),
        wav(channels=3),
        wav(sample_bytes=3),
        wav()[:20] + struct.pack("<H", 0x2000) + wav()[22:],  # AC-3 in a WAV
        wav()[:36] + wav()[12:36] + wav()[36:],  # two formats
        b"RIFF\x00\x00\x00\x00WAVE",
    ],
)
def test_what_is_no_plain_recording_may_be_as_long_as_any(audio: bytes) -> None:
    clip = clip_of(audio)
    assert clip == Clip(None)
    assert clip_tokens_max(clip, HEARING) == 480_000 // 80 + 1


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (b"", "empty"),
        (b"hello", "WAV, MP3, FLAC or Ogg"),
        (b"\xff\xf1\x50\x80" + bytes(100), "WAV, MP3, FLAC or Ogg"),  # AAC
        (b"RIFF\x00\x00\x00\x00AVI ", "WAV, MP3, FLAC or Ogg"),
        (b"\x00\x00\x00\x20ftypM4A ", "WAV, MP3, FLAC or Ogg"),
    ],
)
def test_what_is_no_audio_that_is_taken_is_refused(audio: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        clip_of(audio)


@given(st.binary(max_size=200))
def test_whatever_follows_a_beginning_it_is_read_or_refused(rest: bytes) -> None:
    for beginning in (b"RIFF\x24\x00\x00\x00WAVE", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"ID3"):
        clip = clip_of(beginning + rest)
        assert (
            0 < clip_tokens_max(clip, HEARING) <= HEARING.seconds_max * 1000 // HEARING.token_milliseconds + 1
        )
