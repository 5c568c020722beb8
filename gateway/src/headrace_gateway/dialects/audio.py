"""Audio as its bytes tell it: whether it is of a format that is taken, and how long it is at most.

What must stay true: nobody decodes it here, and no header is believed that a compressed file could have written as it
likes. Such a file has no bit rate below which it can't go (silence costs FLAC a few bytes a second), and it may begin
like one format and be read as another. So plain samples tell their length, and whatever else may be as long as the
engine takes any.
"""

import io
import wave

import msgspec

from headrace_contracts.deployments import Deployment, Hearing
from headrace_gateway.errors import InvalidRequest

AUDIO_BYTES_MAX = 25 * 2**20
"""Of one file: Z.ai's bound, OpenAI's and vLLM's (`VLLM_MAX_AUDIO_CLIP_FILESIZE_MB`)."""

HEAD_BYTES = 64 * 1024
"""Of a file's beginning, in which its format shows; what stands before the samples has rarely a hundred bytes."""

FORMATS = "WAV, MP3, FLAC or Ogg"

SAMPLE_BYTES = 2
RATES = range(8_000, 48_001)
CHANNELS_MAX = 2
"""Samples that tell how long they last: what microphones write. Others, at a higher rate, would say that a second
takes more bytes than any speech does."""

ROUNDING_MILLISECONDS = 1000
"""By which a file may seem too long because of what stands beside its samples; the engine measures it anew."""


class Clip(msgspec.Struct, frozen=True):
    """One recording."""

    milliseconds: int | None
    """At most; null where its bytes don't tell."""


def read_clip(head: bytes, size_bytes: int, *, param: str) -> Clip:
    """`head`: the first `HEAD_BYTES` of it. Raises `InvalidRequest` for what is no audio that is taken."""
    if not size_bytes:
        raise InvalidRequest(f"`{param}` holds no audio: it is empty.", param=param)
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return Clip(_wav_milliseconds(head, size_bytes))
    if not (head.startswith((b"fLaC", b"OggS", b"ID3")) or _is_mpeg_layer_3(head)):
        raise InvalidRequest(f"`{param}` holds no audio that is taken here: send {FORMATS}.", param=param)
    return Clip(None)


def check_clip(clip: Clip, deployment: Deployment, hearing: Hearing, *, param: str) -> None:
    """Raises `InvalidRequest` for audio that is longer than the engine takes."""
    most = hearing.seconds_max
    if clip.milliseconds is not None and clip.milliseconds > most * 1000 + ROUNDING_MILLISECONDS:
        raise InvalidRequest(
            f"The audio is {clip.milliseconds // 1000} s long, and the model {deployment.model!r} takes at most {most} s.",
            param=param,
        )


def clip_tokens_max(clip: Clip, hearing: Hearing) -> int:
    """Upper bound of what it counts in a prompt."""
    longest = hearing.seconds_max * 1000
    milliseconds = longest if clip.milliseconds is None else min(clip.milliseconds, longest)
    # One more, for the engine reads windows of audio, and rounds the last one up to a whole frame.
    return -(-milliseconds // hearing.token_milliseconds) + 1


def _wav_milliseconds(head: bytes, size_bytes: int) -> int | None:
    """By all bytes of the file and not by the length that it claims."""
    if head.count(b"fmt ") != 1:
        return None  # of two, decoders take different ones
    try:
        with wave.open(io.BytesIO(head)) as told:
            rate: int = told.getframerate()
            channels: int = told.getnchannels()
            sample_bytes: int = told.getsampwidth()
    except (wave.Error, EOFError):
        return None
    if rate not in RATES or channels > CHANNELS_MAX or sample_bytes != SAMPLE_BYTES:
        return None
    return -(-size_bytes * 1000 // (rate * channels * sample_bytes))


def _is_mpeg_layer_3(head: bytes) -> bool:
    """Whether it begins with a frame of MPEG audio, layer III, of any version."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2
