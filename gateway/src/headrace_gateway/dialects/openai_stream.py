"""A completion as a stream of OpenAI chunks: what the client sees of it, and how far the counts have come.

The engine is told to put its running usage on every chunk. What must stay true: a client sees usage only where
it asked for it, and a chunk with empty `choices` only then; everything else of a chunk passes byte for byte.
"""

import re

import msgspec

from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.dialect import BadChunk, Chunk, Cut
from headrace_gateway.dialects.sse import DONE, DONE_EVENT, event, payload_of

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode

USAGE_BYTES_MAX = 1024
"""A usage object has some two hundred bytes; more would not fit where running counts are kept."""


FINISHES = {Cut.LENGTH: "length", Cut.WITHHELD: "content_filter"}


class Usage(msgspec.Struct):
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: dict[str, object] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


_usage = msgspec.json.Decoder(Usage).decode
_choices = msgspec.json.Decoder(list[Choice]).decode

_any = msgspec.json.Decoder(msgspec.Raw).decode

_COUNTED = re.compile(
    rb'\{"prompt_tokens":([0-9]{1,9}),"total_tokens":[0-9]{1,9},"completion_tokens":([0-9]{1,9})'
    rb'(,"prompt_tokens_details":\{"cached_tokens":[0-9]{1,9}\})?'
    rb'(?:,"completion_tokens_details":\{"reasoning_tokens":[0-9]{1,9}\})?\}'
)
"""Running usage as our engine writes it: with what was thought of a chat, and without what was cached."""

_CHOICES, _USAGE = b'"choices":[{', b',"usage":'


class Chunks:
    """Reads the events of one stream in order."""

    end = DONE_EVENT

    def __init__(
        self,
        *,
        dialect: Dialect,
        model: str,
        choices: int,
        choices_per_prompt: int,
        include_usage: bool,
        continuous_usage: bool,
        cached_tokens: int | None = None,
    ) -> None:
        self._dialect = dialect
        self._model = msgspec.Raw(_encode(model))
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._cached_tokens = cached_tokens
        """What the engine's headers said, for running usage that does not tell."""
        self._tally = Tally(choices_per_prompt) if choices > 1 else None
        self._unfinished = set(range(choices))
        self._envelope: dict[str, msgspec.Raw] = {}
        self._beginning: tuple[bytes, bytes] | None = None
        """What each chunk begins with up to its choices, as the engine says it and as the client gets it; null until
        one has been read, and where chunks differ in more than choices and counts."""
        self._output_tokens = 0

    def take(self, block: bytes) -> Chunk | None:
        payload = payload_of(block)
        if payload == DONE:
            return Chunk(DONE_EVENT, None, self._output_tokens, last=True)
        if not payload:
            return None
        return self._read_as_usual(payload) or self.read(payload)

    def _read_as_usual(self, payload: bytes) -> Chunk | None:
        """A chunk that is like those before it but for choices and counts, read at a third of the cost; null for others.

        As each part is JSON by itself and the beginning stood so in one that was read, so is the whole, with no other
        fields than those: in a string no quote stands bare.
        """
        if self._beginning is None:
            return None
        engines, clients = self._beginning
        usage_at = payload.rfind(_USAGE)
        if usage_at < 0 or not payload.startswith(engines) or not payload.startswith(_CHOICES, len(engines)):
            return None
        usage = payload[usage_at + len(_USAGE) : -1]
        counted = _COUNTED.fullmatch(usage)
        if counted is None or not payload.endswith(b"}"):
            return None
        choices = payload[len(engines) + len(_CHOICES) - 2 : usage_at]
        try:
            _any(choices)
        except (msgspec.MsgspecError, RecursionError):
            return None  # and whoever reads it whole says what is wrong with it
        if self._cached_tokens is not None and counted[3] is None:
            details = b',"prompt_tokens_details":{"cached_tokens":%d}}' % min(
                self._cached_tokens, int(counted[1])
            )
            usage = usage[:-1] + details
        self._output_tokens = output_tokens = max(self._output_tokens, int(counted[2]))
        return Chunk(b'data: %b"choices":%b}\n\n' % (clients, choices), usage, output_tokens)

    def read(self, payload: bytes) -> Chunk:
        try:
            fields = _fields(payload)
            if bytes(fields.get("error", b"null")) != b"null":
                # What it says may quote the prompt, so it goes nowhere.
                raise BadChunk("the engine reported an error")
            raw_choices = fields.get("choices")
            if raw_choices is None:
                raise BadChunk("no choices")
            # With one choice nothing hangs on what is in it.
            choices = _choices(raw_choices) if self._tally is not None else []
            final = bytes(raw_choices) == b"[]"
            usage = self._counts(fields.get("usage"), choices, final=final)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadChunk(str(error)) from error
        if usage is None and not final:
            # Without a count each chunk is at least a token, so that the slices still end.
            self._output_tokens += 1
        fields["model"] = self._model
        if not self._envelope:
            self._envelope = {
                name: raw for name, raw in fields.items() if name in ("id", "object", "created", "model")
            }
            self._beginning = self._beginning_of(payload)
        finished = [choice.index for choice in choices if choice.finish_reason is not None]
        client_bytes = self._for_client(fields, final=final)
        return Chunk(client_bytes, usage, self._output_tokens, finished=finished)

    def _beginning_of(self, payload: bytes) -> tuple[bytes, bytes] | None:
        whole = self._tally is None and not self._continuous_usage
        engines, found, _ = payload.partition(_CHOICES)
        if not (whole and found):
            return None
        try:
            fields = _fields(engines[:-1] + b"}")
        except msgspec.MsgspecError:
            return None
        if fields.keys() != self._envelope.keys():
            return None
        return engines, _encode(fields | {"model": self._model})[:-1] + b","

    def handed_on(self, chunk: Chunk) -> None:
        """To be called for each chunk that the client was given."""
        self._unfinished.difference_update(chunk.finished)

    def cut_short(self, usage: bytes | None, cut: Cut = Cut.LENGTH) -> bytes:
        body = b'"text":""' if self._dialect is Dialect.OPENAI_COMPLETIONS else b'"delta":{}'
        reason = FINISHES[cut].encode()
        events = [
            self._chunk(
                b'[{"index":%d,%b,"logprobs":null,"finish_reason":"%b"}]' % (index, body, reason), None
            )
            for index in sorted(self._unfinished)
        ]
        if self._include_usage and usage is not None:
            events.append(self._chunk(b"[]", usage))
        return b"".join(events)

    def _for_client(self, fields: dict[str, msgspec.Raw], *, final: bool) -> bytes:
        if final and not self._include_usage:
            return b""
        if not final and not self._continuous_usage:
            fields.pop("usage", None)
        return event(_encode(fields))

    def _counts(self, raw: msgspec.Raw | None, choices: list[Choice], *, final: bool) -> bytes | None:
        found = read_usage(raw)
        if found is None:
            return None
        usage_bytes, usage = found
        if self._tally is not None and not final:
            usage_bytes, usage = self._tally.add(usage, choices)
        if self._cached_tokens is not None and usage.prompt_tokens_details is None:
            usage_bytes = with_cached(usage_bytes, min(self._cached_tokens, usage.prompt_tokens or 0))
        self._output_tokens = max(self._output_tokens, usage.completion_tokens or 0)
        return usage_bytes

    def _chunk(self, choices: bytes, usage: bytes | None) -> bytes:
        fields = {**self._envelope, "choices": msgspec.Raw(choices)}
        if usage is not None:
            fields["usage"] = msgspec.Raw(usage)
        return event(_encode(fields))


def read_usage(raw: msgspec.Raw | None) -> tuple[bytes, Usage] | None:
    """The engine's usage object as it came, and what it says; null where there is none of any use."""
    if raw is None:
        return None
    encoded = bytes(raw)
    if encoded == b"null" or len(encoded) > USAGE_BYTES_MAX:
        return None
    return encoded, _usage(encoded)


def with_cached(usage: bytes, cached_tokens: int) -> bytes:
    fields: dict[str, object] = dict(_fields(usage))
    return _encode({**fields, "prompt_tokens_details": {"cached_tokens": cached_tokens}})


class Tally:
    """Sums over choices: a chunk's usage counts its own choice alone, and its own prompt alone."""

    def __init__(self, choices_per_prompt: int) -> None:
        self._choices_per_prompt = choices_per_prompt
        self._prompts: dict[int, int] = {}
        self._completions: dict[int, int] = {}

    def add(self, usage: Usage, choices: list[Choice]) -> tuple[bytes, Usage]:
        for choice in choices:
            self._prompts[choice.index // self._choices_per_prompt] = usage.prompt_tokens or 0
            self._completions[choice.index] = usage.completion_tokens or 0
        prompt, completion = sum(self._prompts.values()), sum(self._completions.values())
        summed = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        return _encode(summed), Usage(prompt_tokens=prompt, completion_tokens=completion)
