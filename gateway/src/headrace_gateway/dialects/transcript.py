"""What was heard, in the words of each dialect: events of a stream, and the answer in one piece.

The dialects name the events alike. A transcript that did not end by itself says so in `finish_reason`, which neither
has, as a client can't tell it otherwise.
"""

from typing import Any, Protocol

import msgspec

from headrace_gateway.dialects.dialect import Cut
from headrace_gateway.dialects.openai_stream import FINISHES
from headrace_gateway.dialects.running_counts import read_counts
from headrace_gateway.dialects.sse import event
from headrace_gateway.dialects.zai_reply import FINISHES as ZAI_FINISHES

TEXT = "text/plain; charset=utf-8"

DELTA, DONE = "transcript.text.delta", "transcript.text.done"

_encode = msgspec.json.encode
_fields = msgspec.json.Decoder(dict[str, Any]).decode


class Transcript(msgspec.Struct):
    """As far as it has come."""

    model: str
    id: str = ""
    created: int = 0
    text: str = ""
    usage: bytes | None = None
    """In the engine's shape."""
    finish: str | None = None
    """How it ended, where that was not by itself."""


class Words(Protocol):
    def delta(self, transcript: Transcript, text: str) -> bytes:
        """An event with what is new."""

    def done(self, transcript: Transcript) -> bytes:
        """The event with all of it."""

    def whole(self, transcript: Transcript) -> bytes: ...

    def finish(self, reason: str) -> str:
        """How the dialect calls what ended a transcript."""


class OpenAIWords:
    def delta(self, transcript: Transcript, text: str) -> bytes:  # noqa: ARG002 - Z.ai's has more to say
        return event(_encode({"type": DELTA, "delta": text}))

    def done(self, transcript: Transcript) -> bytes:
        return event(_encode({"type": DONE} | self._all(transcript)))

    def whole(self, transcript: Transcript) -> bytes:
        return _encode(self._all(transcript))

    def finish(self, reason: str) -> str:
        return reason

    def _all(self, transcript: Transcript) -> dict[str, Any]:
        said: dict[str, Any] = {"text": transcript.text} | _ended(self, transcript)
        if transcript.usage is not None:
            counts = read_counts(transcript.usage)
            said["usage"] = {
                "type": "tokens",
                "input_tokens": counts.prompt_tokens,
                "output_tokens": counts.completion_tokens,
                "total_tokens": counts.prompt_tokens + counts.completion_tokens,
            }
        return said


class ZaiWords:
    def __init__(self, request_id: str | None) -> None:
        """`request_id`: the client's own, if it has one."""
        self._request_id = request_id

    def delta(self, transcript: Transcript, text: str) -> bytes:
        return event(_encode(self._head(transcript) | {"type": DELTA, "delta": text}))

    def done(self, transcript: Transcript) -> bytes:
        return event(_encode(self._head(transcript) | {"type": DONE} | self._all(transcript)))

    def whole(self, transcript: Transcript) -> bytes:
        return _encode(self._head(transcript) | self._all(transcript))

    def finish(self, reason: str) -> str:
        return ZAI_FINISHES.get(reason, reason)

    def _head(self, transcript: Transcript) -> dict[str, Any]:
        return {
            "id": transcript.id,
            "created": transcript.created,
            "request_id": self._request_id or transcript.id,
            "model": transcript.model,
        }

    def _all(self, transcript: Transcript) -> dict[str, Any]:
        usage: dict[str, Any] = {}
        if transcript.usage is not None:
            counts = read_counts(transcript.usage)
            total = {"total_tokens": counts.prompt_tokens + counts.completion_tokens}
            usage["usage"] = _fields(transcript.usage) | total
        return {"text": transcript.text} | _ended(self, transcript) | usage


OPENAI = OpenAIWords()


def withheld(body: bytes, words: Words) -> bytes:
    """The same answer with nothing in it, and a usage that counts its prompt alone."""
    fields = _fields(body)
    if (usage := fields.get("usage")) is not None:
        usage |= {name: 0 for name in ("output_tokens", "completion_tokens") if name in usage}
        usage["total_tokens"] = usage.get("input_tokens", usage.get("prompt_tokens"))
    return _encode(fields | {"text": "", "finish_reason": words.finish(FINISHES[Cut.WITHHELD])})


def _ended(words: Words, transcript: Transcript) -> dict[str, Any]:
    return {} if transcript.finish is None else {"finish_reason": words.finish(transcript.finish)}
