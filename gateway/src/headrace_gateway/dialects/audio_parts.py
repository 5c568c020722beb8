"""Audio in a message's content: `input_audio` as OpenAI's clients send it, `audio_url` as vLLM reads it.

What must stay true: the engine finds the same audio in a part as is found here, and nothing in one is an address.
"""

import base64
import binascii
import re
from typing import Any

from headrace_gateway.dialects.audio import HEAD_BYTES, Clip, read_clip
from headrace_gateway.errors import InvalidRequest, NotOffered

NAMES = frozenset(("input_audio", "audio_url", "audio"))

PARAM = "messages"

_FORMAT = re.compile(r"[a-z0-9][a-z0-9.+-]{0,31}", re.ASCII | re.IGNORECASE)
_DATA_URL = re.compile(r"data:audio/[a-z0-9][a-z0-9.+-]{0,31};base64,", re.ASCII)

HEAD_CHARACTERS = HEAD_BYTES // 3 * 4
"""Whole groups of base64, so that the head can be read by itself."""


def is_audio(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    return (isinstance(kind, str) and kind in NAMES) or not NAMES.isdisjoint(part)


def clip_of(part: dict[str, Any]) -> tuple[Clip, int]:
    """The recording, and how many characters of the part are nothing else."""
    kind = part.get("type")
    if kind == "input_audio":
        data = _given(part, kind)
    elif kind == "audio_url":
        data = _inline(part, kind)
    else:
        raise NotOffered("Audio is taken as `input_audio` or `audio_url` parts alone.", param=PARAM)
    if part.keys() != {"type", kind}:
        # By a `uuid` the engine would look it up among what anybody has sent.
        raise InvalidRequest("A part of audio must hold one recording and nothing beside it.", param=PARAM)
    return read_clip(_head(data), len(data) * 3 // 4, param=PARAM), len(data)


def _given(part: dict[str, Any], name: str) -> str:
    audio = part.get(name)
    data = audio.get("data") if isinstance(audio, dict) else None
    kind = audio.get("format") if isinstance(audio, dict) else None
    # The engine writes a data URL of both: what is no name of a format could begin the data.
    if not isinstance(data, str) or not isinstance(kind, str) or not _FORMAT.fullmatch(kind):
        raise InvalidRequest(
            "`input_audio` must have `data`, the audio in base64, and `format`, as `wav`.", param=PARAM
        )
    return data


def _inline(part: dict[str, Any], name: str) -> str:
    source = part.get(name)
    if isinstance(source, dict):
        source = source.get("url")
    begun = _DATA_URL.match(source) if isinstance(source, str) else None
    if begun is None:
        raise InvalidRequest(
            "Audio is not fetched from an address. Send it itself, as `data:audio/wav;base64,…`.",
            param=PARAM,
        )
    assert isinstance(source, str)
    return source[begun.end() :]


def _head(data: str) -> bytes:
    try:
        return base64.b64decode(data[:HEAD_CHARACTERS], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("The audio is not valid base64.", param=PARAM) from None
