"""A response as a stream of events: what the client sees of it, and how far the counts have come.

The dialect tells usage in the last event alone, so our engine writes its running counts above each. What must
stay true: every event passes byte for byte but those that hold the response itself; and the answer of a stream
that is cut short holds what the client was given, and no more.
"""

from typing import Any

import msgspec

from headrace_gateway.dialects.dialect import BadChunk, Chunk, Cut
from headrace_gateway.dialects.response_items import is_empty
from headrace_gateway.dialects.responses_reply import (
    FinalResponse,
    Raws,
    for_client,
    usage_fields,
    usage_of,
)
from headrace_gateway.dialects.running_counts import Counts, read_counts, split_counts
from headrace_gateway.dialects.sse import named_event, payload_of

_encode = msgspec.json.encode
_fields = msgspec.json.Decoder(Raws).decode
_decode = msgspec.json.decode

REASONS = {Cut.LENGTH: "max_output_tokens", Cut.WITHHELD: "content_filter"}

BEGINNINGS = ("response.created", "response.in_progress", "response.queued")
ENDS = ("response.completed", "response.incomplete")
ITEM_BEGUN = "response.output_item.added"
FAILURES = ("response.failed", "error")

TEXTS = {
    "response.output_text.delta": ("output_text", "content", "text"),
    "response.reasoning_text.delta": ("reasoning_text", "content", "text"),
    "response.function_call_arguments.delta": (None, None, "arguments"),
    "response.custom_tool_call_input.delta": (None, None, "input"),
}
"""What grows by each kind of delta: a part of which type, in which list of its item, and which field."""

NOTED: dict[str | None, dict[str, Any]] = {"output_text": {"annotations": []}}
"""What a part of each type has beside its text."""


class Event(msgspec.Struct):
    type: str
    sequence_number: int = 0
    output_index: int = 0
    content_index: int = 0
    delta: Any = None
    item: msgspec.Raw = msgspec.Raw(b"null")


_event = msgspec.json.Decoder(Event).decode


class ResponseChunk(Chunk, frozen=True):
    event: Event | None = None


class ResponseEvents:
    """Reads the events of one stream in order."""

    end = b""

    def __init__(self, *, model: str, previous: str | None, final: FinalResponse) -> None:
        self._model = model
        self._previous = previous
        self._final = final
        self._response: Raws = {}
        """As it stood at the beginning."""
        self._output: dict[int, Any] = {}
        """What the client has of each item."""
        self._output_tokens = 0

    def take(self, block: bytes) -> Chunk | None:
        try:
            counts, block = split_counts(block)
            payload = payload_of(block)
            if not payload:
                return None
            event = _event(payload)
            if event.type in FAILURES:
                # What it says may quote the prompt, so it goes nowhere.
                raise BadChunk("the engine reported an error")
            if event.type in ENDS:
                return self._last(event, payload)
            usage = self._counts(event, counts)
            client_bytes = block + b"\n\n"
            if event.type in BEGINNINGS:
                client_bytes = self._begun(event, payload)
        except (msgspec.MsgspecError, RecursionError, KeyError) as error:
            raise BadChunk(str(error)) from error
        return ResponseChunk(client_bytes, usage, self._output_tokens, event=event)

    def handed_on(self, chunk: Chunk) -> None:
        assert isinstance(chunk, ResponseChunk), "chunks come back to the reader that made them"
        event = chunk.event
        if event is None:
            return
        self._final.events_given = event.sequence_number + 1
        if bytes(event.item) != b"null":
            item = self._output[event.output_index] = _decode(event.item)
            if event.type == ITEM_BEGUN:
                # Until it is done; calls of custom tools would say nothing of it.
                item["status"] = "incomplete"
        elif event.type in TEXTS and isinstance(event.delta, str):
            self._grow(event)

    def cut_short(self, usage: bytes | None, cut: Cut = Cut.LENGTH) -> bytes:
        items = [msgspec.Raw(_encode(self._output[index])) for index in sorted(self._output)]
        response = self._response | {
            "status": msgspec.Raw(b'"incomplete"'),
            "incomplete_details": msgspec.Raw(_encode({"reason": REASONS[cut]})),
            "output": msgspec.Raw(_encode([item for item in items if not is_empty(item)])),
        }
        if usage is not None:
            response["usage"] = msgspec.Raw(_encode(usage_fields(read_counts(usage))))
        if "id" in response:
            self._final.take(response, _encode(response))
        event = {
            "type": "response.incomplete",
            "sequence_number": self._final.events_given,
            "response": response,
        }
        return named_event(b"response.incomplete", _encode(event))

    def _begun(self, event: Event, payload: bytes) -> bytes:
        fields = self._renamed(payload)
        self._response = _fields(fields["response"])
        return named_event(event.type.encode(), _encode(fields))

    def _last(self, event: Event, payload: bytes) -> Chunk:
        fields = self._renamed(payload)
        response = _fields(fields["response"])
        self._final.take(response, bytes(fields["response"]))
        client_bytes = named_event(event.type.encode(), _encode(fields))
        return ResponseChunk(client_bytes, usage_of(response), self._output_tokens, last=True)

    def _renamed(self, payload: bytes) -> Raws:
        fields = _fields(payload)
        response = for_client(_fields(fields["response"]), model=self._model, previous=self._previous)
        fields["response"] = msgspec.Raw(_encode(response))
        return fields

    def _counts(self, event: Event, counts: Counts | None) -> bytes | None:
        if counts is None:
            # Without a count each delta is at least a token, so that the slices still end.
            self._output_tokens += event.type.endswith(".delta")
            return None
        if event.type in BEGINNINGS:
            # Nothing that was generated is in these.
            counts.completion_tokens = 0
        self._output_tokens = max(self._output_tokens, counts.completion_tokens)
        return counts.encoded()

    def _grow(self, event: Event) -> None:
        kind, within, name = TEXTS[event.type]
        item = self._output.setdefault(event.output_index, {"status": "incomplete"})
        if within is not None:
            # The engine begins some items without any parts.
            parts = item[within] = item.get(within) or []
            while len(parts) <= event.content_index:
                parts.append({"type": kind, "text": ""} | NOTED.get(kind, {}))
            item = parts[event.content_index]
        item[name] = (item.get(name) or "") + event.delta
