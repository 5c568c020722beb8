"""A message as a stream of Anthropic's events: what the client sees of it, and how far the counts have come.

The dialect tells usage only at both ends of a stream. So our engine writes its running counts above each event,
as a comment, which is taken out here; of an engine that writes none the ends have to do. What must stay true:
every event passes byte for byte, but for the model's name in the first one, and what of its prompt was cached: engines
tell that in the last one alone, and many clients look for it in the first.
"""

import msgspec

from headrace_gateway.dialects.anthropic_usage import AnthropicUsage, counts_of
from headrace_gateway.dialects.dialect import BadChunk, Chunk, Cut
from headrace_gateway.dialects.running_counts import Counts, read_counts, split_counts
from headrace_gateway.dialects.sse import named_event, payload_of

_encode = msgspec.json.encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


STOPS = {Cut.LENGTH: "max_tokens", Cut.WITHHELD: "refusal"}


class Message(msgspec.Struct):
    usage: AnthropicUsage | None = None


class Event(msgspec.Struct):
    type: str
    index: int = 0
    message: Message | None = None
    usage: AnthropicUsage | None = None


_event = msgspec.json.Decoder(Event).decode


class MessageEvents:
    """Reads the events of one stream in order."""

    end = named_event(b"message_stop", b'{"type":"message_stop"}')

    def __init__(self, model: str, *, cached_tokens: int | None = None) -> None:
        self._model = msgspec.Raw(_encode(model))
        self._cached_tokens = cached_tokens
        """What the engine's headers said, for usage that does not tell."""
        self._open: set[int] = set()
        self._output_tokens = 0

    def take(self, block: bytes) -> Chunk | None:
        try:
            running, block = split_counts(block)
            payload = payload_of(block)
            if not payload:
                return None
            event = _event(payload)
            if event.type == "error":
                # What it says may quote the prompt, so it goes nowhere.
                raise BadChunk("the engine reported an error")
            counts = self._counts(event, running)
            if event.type == "message_start":
                block = self._begun(payload, event, counts)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadChunk(str(error)) from error
        return Chunk(
            client_bytes=block + b"\n\n" if event.type != "message_start" else block,
            usage=None if counts is None else counts.encoded(),
            output_tokens=self._output_tokens,
            begun=[event.index] if event.type == "content_block_start" else (),
            finished=[event.index] if event.type == "content_block_stop" else (),
            last=event.type == "message_stop",
        )

    def handed_on(self, chunk: Chunk) -> None:
        self._open.update(chunk.begun)
        self._open.difference_update(chunk.finished)

    def cut_short(self, usage: bytes | None, cut: Cut = Cut.LENGTH) -> bytes:
        """Ends the blocks that are open, and the message."""
        stops = [
            named_event(b"content_block_stop", b'{"type":"content_block_stop","index":%d}' % index)
            for index in sorted(self._open)
        ]
        delta = {
            "type": "message_delta",
            "delta": {"stop_reason": STOPS[cut], "stop_sequence": None},
            "usage": _usage_fields(None if usage is None else read_counts(usage)),
        }
        return b"".join([*stops, named_event(b"message_delta", _encode(delta))])

    def _counts(self, event: Event, running: Counts | None) -> Counts | None:
        """Counts up to and with this event; the engine's running ones, else what the dialect tells."""
        counts = running
        if counts is None:
            counts = self._told(event)
        elif event.type == "message_start":
            # The engine has its first token by then, but nothing of it is in this event.
            counts.completion_tokens = 0
        if running is not None and counts is not None:
            self._output_tokens = max(self._output_tokens, counts.completion_tokens)
        elif event.type == "content_block_delta":
            # Without a count each delta is at least a token, so that the slices still end.
            self._output_tokens += 1
        return counts

    def _told(self, event: Event) -> Counts | None:
        usage = event.usage
        if event.message is not None:
            usage = event.message.usage
        if usage is None:
            return None
        return counts_of(usage, cached_tokens=self._cached_tokens)

    def _begun(self, payload: bytes, event: Event, counts: Counts | None) -> bytes:
        fields = _fields(payload)
        message = _fields(fields.get("message", b"{}"))
        message["model"] = self._model
        told = None if event.message is None else event.message.usage
        if told is not None and told.cache_read_input_tokens is None:
            message["usage"] = _told_apart(message["usage"], told, counts)
        fields["message"] = msgspec.Raw(_encode(message))
        return named_event(b"message_start", _encode(fields))


def _told_apart(raw: msgspec.Raw, told: AnthropicUsage, counts: Counts | None) -> msgspec.Raw:
    if counts is None or counts.prompt_tokens_details is None:
        return raw
    cached = min(counts.cached_tokens, told.input_tokens)
    apart = {"input_tokens": told.input_tokens - cached, "cache_read_input_tokens": cached}
    return msgspec.Raw(_encode(_fields(raw) | apart))


def _usage_fields(counts: Counts | None) -> dict[str, int]:
    if counts is None:
        return {"output_tokens": 0}
    return {
        "input_tokens": counts.prompt_tokens - counts.cached_tokens,
        "cache_read_input_tokens": counts.cached_tokens,
        "output_tokens": counts.completion_tokens,
    }
