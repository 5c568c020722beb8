"""A completion as a stream of Z.ai's chunks, made from the engine's.

The dialects differ in three things: reasoning has another name; the last chunk tells how the choice ended and
what it used, where the engine tells that in two; and a tool's arguments come whole, unless they were asked for
as they are written. What must stay true: whatever is kept back is not counted until the client has it, so a
caller who hangs up pays for no word that he never got.
"""

import msgspec

from headrace_gateway.dialects.dialect import BadChunk, Chunk, Cut
from headrace_gateway.dialects.openai_stream import FINISHES, read_usage, with_cached
from headrace_gateway.dialects.sse import DONE, DONE_EVENT, event, payload_of
from headrace_gateway.dialects.zai_reply import NULL, Raws, finish_reason, message_fields

_encode = msgspec.json.encode


class StreamChoice(msgspec.Struct):
    delta: Raws = {}
    finish_reason: str | None = None


class StreamChunk(msgspec.Struct):
    choices: list[StreamChoice]
    id: str = ""
    created: int = 0
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = ""


class ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    type: str | None = None
    function: Function = msgspec.field(default_factory=Function)


SAID = ("content", "reasoning_content")
NOTHING_NEW: Raws = {"content": msgspec.Raw(b'""')}

_chunk = msgspec.json.Decoder(StreamChunk).decode
_calls = msgspec.json.Decoder(list[ToolCall]).decode


class ZaiChunks:
    """Reads the events of one stream in order."""

    end = DONE_EVENT

    def __init__(
        self, *, model: str, context_tokens: int, streams_tools: bool, cached_tokens: int | None
    ) -> None:
        self._model = model
        self._context_tokens = context_tokens
        self._streams_tools = streams_tools
        self._cached_tokens = cached_tokens
        """What the engine's headers said, for running usage that does not tell."""
        self._calls: dict[int, ToolCall] = {}
        """Those being written, by their index."""
        self._finish: str | None = None
        """How the choice ended, until its usage is there too."""
        self._last_delta: Raws = {}
        self._told: bytes | None = None
        """Usage up to what the client was given."""
        self._output_tokens = 0
        self._id = ""
        self._created = 0

    def take(self, block: bytes) -> Chunk | None:
        payload = payload_of(block)
        if payload == DONE:
            # An engine that tells no usage at the end still ends its choice.
            rest = b"" if self._finish is None else self._last_event(None)
            return Chunk(rest + DONE_EVENT, None, self._output_tokens, last=True)
        return self._read(payload) if payload else None

    def handed_on(self, chunk: Chunk) -> None:
        """Nothing hangs on it: there is one choice."""

    def cut_short(self, usage: bytes | None, cut: Cut = Cut.LENGTH) -> bytes:
        self._finish, self._last_delta = FINISHES[cut], {}
        self._calls.clear()
        return self._last_event(usage)

    def _read(self, payload: bytes) -> Chunk:
        try:
            chunk = _chunk(payload)
            if bytes(chunk.error) != b"null":
                # What it says may quote the prompt, so it goes nowhere.
                raise BadChunk("the engine reported an error")
            usage = self._counts(chunk)
            if not self._id:
                self._id, self._created = chunk.id, chunk.created
            if not chunk.choices:
                return self._finished(usage)
            return self._choice(chunk.choices[0], usage)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadChunk(str(error)) from error

    def _choice(self, choice: StreamChoice, usage: bytes | None) -> Chunk:
        delta = {name: raw for name, raw in message_fields(choice.delta).items() if bytes(raw) != b"null"}
        if not self._streams_tools and (written := delta.pop("tool_calls", None)) is not None:
            self._collect(_calls(written))
            # What stands beside it says nothing: sent on, it would count what is kept back as given.
            delta = {name: raw for name, raw in delta.items() if name in SAID and bytes(raw) != b'""'}
        if choice.finish_reason is not None:
            self._finish, self._last_delta = choice.finish_reason, delta
        elif delta:
            if usage is not None:
                self._told = usage
            return Chunk(self._event(delta), self._told, self._output_tokens)
        return Chunk(b"", self._told, self._output_tokens)

    def _finished(self, usage: bytes | None) -> Chunk:
        """The engine's last word on what was used."""
        if self._finish is None:
            return Chunk(b"", self._told, self._output_tokens)
        if usage is not None:
            self._told = usage
        return Chunk(self._last_event(usage), self._told, self._output_tokens)

    def _last_event(self, usage: bytes | None) -> bytes:
        """Whatever was kept back, and how the choice ended."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        called = self._event({"tool_calls": msgspec.Raw(_encode(calls))}) if calls else b""
        reason = finish_reason(self._finish, usage, context_tokens=self._context_tokens)
        self._finish = None
        return called + self._event(self._last_delta or NOTHING_NEW, reason=reason, usage=usage)

    def _event(self, delta: Raws, *, reason: str | None = None, usage: bytes | None = None) -> bytes:
        choice: dict[str, object] = {"index": 0, "delta": delta}
        if reason is not None:
            choice["finish_reason"] = reason
        fields: dict[str, object] = {
            "id": self._id,
            "created": self._created,
            "object": "chat.completion.chunk",
            "model": self._model,
            "choices": [choice],
        }
        if usage is not None:
            fields["usage"] = msgspec.Raw(usage)
        return event(_encode(fields))

    def _collect(self, written: list[ToolCall]) -> None:
        for piece in written:
            call = self._calls.setdefault(piece.index, ToolCall(index=piece.index))
            call.id = piece.id or call.id
            call.type = piece.type or call.type
            call.function.name = piece.function.name or call.function.name
            call.function.arguments = (call.function.arguments or "") + (piece.function.arguments or "")

    def _counts(self, chunk: StreamChunk) -> bytes | None:
        found = read_usage(chunk.usage)
        if found is None:
            if chunk.choices:
                # Without a count each chunk is at least a token, so that the slices still end.
                self._output_tokens += 1
            return None
        encoded, usage = found
        if self._cached_tokens is not None and usage.prompt_tokens_details is None:
            encoded = with_cached(encoded, min(self._cached_tokens, usage.prompt_tokens or 0))
        self._output_tokens = max(self._output_tokens, usage.completion_tokens or 0)
        return encoded
