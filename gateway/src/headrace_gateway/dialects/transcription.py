"""A recording to be written down: OpenAI's form and Z.ai's, made into the one that the engine takes.

The engine's plain answer tells seconds and no tokens, its stream tells both; so it is always asked for a stream. What
must stay true: only fields that are named here reach the engine, and none by which it would do more than it tells.
"""

import base64
import binascii

import msgspec

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.audio import (
    AUDIO_BYTES_MAX,
    HEAD_BYTES,
    Clip,
    check_clip,
    clip_tokens_max,
    read_clip,
)
from headrace_gateway.dialects.dialect import JSON
from headrace_gateway.dialects.fields import (
    OUTPUT_TOKENS_MAX,
    Fields,
    bounded,
    flag_of,
    model_of,
    read_fields,
    text_between,
    text_of,
    value_of,
)
from headrace_gateway.dialects.forms import (
    FILE,
    FILE_BASE64,
    OBJECT,
    decode_form,
    fields_of,
    written,
)
from headrace_gateway.dialects.media import NO_MEDIA, Media
from headrace_gateway.dialects.transcript import OPENAI, TEXT, Words, ZaiWords, withheld
from headrace_gateway.dialects.transcript_stream import TranscriptEvents, read_transcript
from headrace_gateway.dialects.zai_request import REQUEST_ID_CHARACTERS, USER_ID_CHARACTERS
from headrace_gateway.errors import BodyTooLarge, FieldMissing, InvalidRequest, NotOffered

TEXTS = ("language", "prompt")
NUMBERS = (
    *("temperature", "top_p", "top_k", "min_p", "seed"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty"),
)
"""What means the same to the engine."""

TEXT_CHARACTERS = (0, 64 * 1024)

OUTPUT = "max_completion_tokens"
HOTWORDS_MAX = 100
"""Z.ai's own bound."""

ZAI_FIELDS = ("model", "prompt", "hotwords", "stream")

FORMATS = ("json", "text")
"""Of an answer. Others tell times, and no model here does."""

_ENGINE = (
    ("response_format", "json"),
    ("stream", "true"),
    ("stream_include_usage", "true"),
    ("stream_continuous_usage_stats", "true"),
)

_list = msgspec.json.Decoder(list[str]).decode
_number = msgspec.json.Decoder(int | float).decode


class TranscriptionRequest(msgspec.Struct, frozen=True):
    dialect: Dialect
    model: str
    streamed: bool
    output_tokens_max: int | None
    audio: memoryview
    clip: Clip
    fields: list[tuple[str, str]]
    """For the engine."""
    words: Words
    """In which its client is answered."""
    reply_type: str
    once: str | None
    end_user: str | None
    choices: int = 1
    media: Media = NO_MEDIA
    task: Task = Task.TRANSCRIBE

    @property
    def beginning(self) -> None:
        """Each stands for itself."""

    def check(self, deployment: Deployment) -> None:
        if deployment.hearing is None:
            raise NotOffered(f"The model {deployment.model!r} does not hear.", param="model")
        check_clip(self.clip, deployment, deployment.hearing, param=FILE)

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        """No token is less than a byte of text, and no prompt is longer than the context."""
        assert deployment.hearing is not None, "what can't hear is refused"
        said = sum(len(value.encode()) for name, value in self.fields if name in (*TEXTS, "hotwords"))
        heard = clip_tokens_max(self.clip, deployment.hearing)
        return min(said + heard + deployment.prompt_overhead_tokens, deployment.context_tokens)

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:  # noqa: ARG002
        bound = [] if output_tokens_max is None else [(OUTPUT, str(output_tokens_max))]
        return written([("model", deployment.engine_model), *_ENGINE, *self.fields, *bound], self.audio)

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> TranscriptEvents:
        return TranscriptEvents(self.words, model=deployment.model, cached_tokens=cached_tokens)

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        transcript = read_transcript(body, model=deployment.model)
        if self.reply_type == TEXT:
            return transcript.text.encode("utf-8", "surrogatepass"), transcript.usage
        return self.words.whole(transcript), transcript.usage

    def withheld(self, body: bytes) -> bytes:
        return b"" if self.reply_type == TEXT else withheld(body, self.words)


def decode_openai(body: bytes) -> TranscriptionRequest:
    """Of a form. Raises `InvalidRequest` for what can't be a request; the engine judges the rest."""
    form = decode_form(body)
    lists = ("hotwords", "include", "timestamp_granularities")
    fields = fields_of(form, flags=("stream",), numbers=(*NUMBERS, OUTPUT), lists=lists)
    wanted = text_of(fields, "response_format") or FORMATS[0]
    if wanted not in FORMATS:
        raise NotOffered(
            f"`response_format` is `json` or `text`: no model here tells {wanted[:20]!r}.",
            param="response_format",
        )
    return _request(
        fields,
        form.file,
        dialect=Dialect.OPENAI_TRANSCRIPTIONS,
        words=OPENAI,
        reply_type=TEXT if wanted == "text" else JSON,
        end_user=text_of(fields, "user"),
    )


def decode_zai(body: bytes) -> TranscriptionRequest:
    """Of a form, or of a JSON object that has the recording as base64."""
    if body.startswith(OBJECT):
        fields, file = read_fields(body), None
    else:
        form = decode_form(body)
        fields, file = fields_of(form, flags=("stream",), numbers=(), lists=("hotwords",)), form.file
    if file is None and (inline := text_of(fields, FILE_BASE64)) is not None:
        file = _decoded(inline)
    once = text_between(fields, "request_id", REQUEST_ID_CHARACTERS)
    return _request(
        # What Z.ai does not know of the engine's fields, it ignores.
        {name: raw for name, raw in fields.items() if name in ZAI_FIELDS},
        file,
        dialect=Dialect.ZAI_TRANSCRIPTIONS,
        words=ZaiWords(once),
        reply_type=JSON,
        once=once,
        end_user=text_between(fields, "user_id", USER_ID_CHARACTERS),
    )


def _request(
    fields: Fields,
    file: memoryview | None,
    *,
    dialect: Dialect,
    words: Words,
    reply_type: str,
    end_user: str | None,
    once: str | None = None,
) -> TranscriptionRequest:
    model = model_of(fields)
    if file is None:
        raise FieldMissing(FILE)
    if len(file) > AUDIO_BYTES_MAX:
        raise BodyTooLarge(limit_bytes=AUDIO_BYTES_MAX)
    return TranscriptionRequest(
        dialect=dialect,
        model=model,
        streamed=flag_of(fields, "stream"),
        output_tokens_max=bounded(fields, OUTPUT, OUTPUT_TOKENS_MAX),
        audio=file,
        clip=read_clip(bytes(file[:HEAD_BYTES]), len(file), param=FILE),
        fields=_for_engine(fields),
        words=words,
        reply_type=reply_type,
        once=once,
        end_user=end_user,
    )


def _for_engine(fields: Fields) -> list[tuple[str, str]]:
    said = [(name, text) for name in TEXTS if (text := text_between(fields, name, TEXT_CHARACTERS))]
    numbers = [
        (name, str(number))
        for name in NUMBERS
        if (number := value_of(fields, name, _number, "a number")) is not None
    ]
    hotwords = value_of(fields, "hotwords", _list, "a list of strings") or []
    if len(hotwords) > HOTWORDS_MAX:
        raise InvalidRequest(f"`hotwords` must be at most {HOTWORDS_MAX}.", param="hotwords")
    return said + numbers + ([("hotwords", ", ".join(hotwords))] if hotwords else [])


def _decoded(inline: str) -> memoryview:
    try:
        return memoryview(base64.b64decode(inline, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"`{FILE_BASE64}` is not valid base64.", param=FILE_BASE64) from None
