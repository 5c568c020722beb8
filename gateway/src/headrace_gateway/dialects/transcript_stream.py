"""vLLM's stream of a transcription: what was heard so far, and how far the counts have come.

vLLM cuts a long recording into clips and hears one after the other. What must stay true: its usage has the output of
all of them and the prompt of the newest alone, so prompts are summed here, at each clip's end.
"""

from collections import deque

import msgspec

from headrace_gateway.dialects.dialect import BadChunk, Chunk, Cut, NoCompletion
from headrace_gateway.dialects.openai_stream import FINISHES
from headrace_gateway.dialects.running_counts import CachedTokens, Counts, split_counts
from headrace_gateway.dialects.sse import DONE, DONE_EVENT, Events, EventTooLarge, payload_of
from headrace_gateway.dialects.transcript import OPENAI, Transcript, Words


class Delta(msgspec.Struct):
    content: str | None = None


class StreamChoice(msgspec.Struct):
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None


class StreamChunk(msgspec.Struct):
    choices: list[StreamChoice] | None = None
    id: str = ""
    created: int = 0
    usage: Counts | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_chunk = msgspec.json.Decoder(StreamChunk).decode


class TranscriptEvents:
    """Reads the events of one stream in order."""

    end = DONE_EVENT

    def __init__(self, words: Words, *, model: str, cached_tokens: int | None) -> None:
        self.heard = Transcript(model=model)
        self._words = words
        self._cached_tokens = cached_tokens
        """What the engine's headers said, for usage that does not tell."""
        self._is_counted_above = False
        """Whether the engine is ours, which tells all of it above its events."""
        self._prompts_heard = 0
        """Tokens of the prompts of clips that are done."""
        self._newest_prompt = 0
        self._output_tokens = 0
        self._texts: deque[str] = deque()
        """Of chunks that the client was not yet given."""
        self._given: list[str] = []
        self._is_told = False
        """Whether the event with all of it was made."""

    def take(self, block: bytes) -> Chunk | None:
        try:
            counts, event = split_counts(block)
            payload = payload_of(event)
            if payload == DONE:
                rest = b"" if self._is_told else self._all()
                return Chunk(rest + DONE_EVENT, None, self._output_tokens, last=True)
            return self._read(_chunk(payload), counts) if payload else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadChunk(str(error)) from error

    def handed_on(self, chunk: Chunk) -> None:  # noqa: ARG002 - they come in order
        self._given.append(self._texts.popleft())

    def cut_short(self, usage: bytes | None, cut: Cut = Cut.LENGTH) -> bytes:
        heard = self.heard
        heard.usage, heard.finish, heard.text = usage, FINISHES[cut], "".join(self._given)
        return self._words.done(heard)

    def _read(self, chunk: StreamChunk, counts: Counts | None) -> Chunk:
        if bytes(chunk.error) != b"null":
            # What it says may quote the prompt, so it goes nowhere.
            raise BadChunk("the engine reported an error")
        if chunk.choices is None:
            raise BadChunk("no choices")
        if not self.heard.id:
            self.heard.id, self.heard.created = chunk.id, chunk.created
        choice = chunk.choices[0] if chunk.choices else None
        if counts is None and not self._is_counted_above:
            counts = self._counted(chunk.usage, choice)
        elif counts is not None:
            self._is_counted_above = True
        if counts is not None:
            self.heard.usage = counts.encoded()
            self._output_tokens = max(self._output_tokens, counts.completion_tokens)
        elif choice is not None:
            # Without a count each chunk is at least a token, so that the slices still end.
            self._output_tokens += 1
        usage = None if counts is None else self.heard.usage
        if choice is None:
            self._texts.append("")
            return Chunk(self._all(), usage, self._output_tokens)
        if choice.finish_reason not in (None, "stop"):
            self.heard.finish = choice.finish_reason
        text = choice.delta.content or ""
        self._texts.append(text)
        return Chunk(self._words.delta(self.heard, text) if text else b"", usage, self._output_tokens)

    def _counted(self, usage: Counts | None, choice: StreamChoice | None) -> Counts | None:
        if usage is None:
            return None
        if choice is not None or not self._prompts_heard:
            self._newest_prompt = usage.prompt_tokens
        prompt = self._prompts_heard + self._newest_prompt
        if choice is not None and choice.finish_reason is not None:
            self._prompts_heard, self._newest_prompt = prompt, 0
        cached = self._cached_tokens
        return Counts(
            prompt_tokens=prompt,
            completion_tokens=usage.completion_tokens,
            prompt_tokens_details=None if cached is None else CachedTokens(min(cached, prompt)),
        )

    def _all(self) -> bytes:
        self._is_told = True
        self.heard.text = "".join((*self._given, *self._texts))
        return self._words.done(self.heard)


def read_transcript(body: bytes, *, model: str) -> Transcript:
    """Of a stream that has ended. Raises `NoCompletion` for one that ended otherwise than it should."""
    reader = TranscriptEvents(OPENAI, model=model, cached_tokens=None)
    try:
        for block in Events().blocks(body):
            chunk = reader.take(block)
            if chunk is not None and chunk.last:
                return reader.heard
    except (BadChunk, EventTooLarge) as error:
        raise NoCompletion(str(error)) from error
    raise NoCompletion("the stream ended before its last event")
