"""An engine that speaks OpenAI's protocol and Anthropic's over real HTTP and behaves as badly as it is told.

It keeps a record of every attempt: what was asked, what it yielded, how it ended; the side of the
reconciliation that the gateway has no part in.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.forms import form_of
from tests.support.messages import Messages
from tests.support.responses import ResponseReply
from tests.support.transcripts import Transcription

READ_BYTES = 65536
REASONS = {200: b"OK"}


@dataclass(frozen=True)
class Behaviour:
    """What the engine does with one request. Counts of chunks do not count the first one, with the role."""

    tokens: int = 5
    prompt_tokens: int = 7
    cached_tokens: int = 3
    cached_header: bool = False
    """Says in a header how much was cached; its running usage does not."""
    text: str = "word"
    continuous_usage: bool = True
    """Running counts: on each chunk, or as a comment above each event where the dialect has no place for them."""
    thinking_tokens: int = 0
    tool: bool = False
    """How many of the tokens are thought, and whether the others call a tool."""
    running_counts: bool = False
    """Whether a comment above each event of a transcript has the counts, those that were cached among them."""
    clips: int = 1
    """Into which a recording is cut; each has as many tokens, and a prompt of its own."""
    finish: str = "stop"
    """How a completion ends that calls no tool."""
    before_first_seconds: float = 0.0
    before_each_seconds: float = 0.0
    before_done_seconds: float = 0.0
    begins: asyncio.Event | None = None
    """Says nothing before this is set."""
    ends: asyncio.Event | None = None
    """Keeps back how a stream ends until this is set."""
    break_after: int | None = None
    """Resets the connection after so many chunks."""
    end_after: int | None = None
    """Ends HTTP's message cleanly after so many chunks, without the last events."""
    hang_after: int | None = None
    error_event_after: int | None = None
    status: int = 200
    error: str = "something"
    reset: bool = False
    """Closes the connection instead of answering."""
    raw: bytes | None = None
    """Written as it is instead of any answer, then the connection is closed."""
    close_afterwards: bool = False
    """Closes the kept connection after the answer, without having said so."""
    piece_bytes: int | None = None
    """Cuts what it writes into pieces of this size."""


@dataclass
class Attempt:
    """One request as the engine saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    """A form's fields, and its file as bytes, where it is none of JSON."""
    prompt: int = 0
    yielded: int = 0
    ending: str = "started"

    @property
    def id(self) -> str:
        return self.headers.get("x-request-id", "")


class Aborted(Exception):
    """The gateway closed the connection."""


@dataclass
class FakeEngine:
    default: Behaviour = field(default_factory=Behaviour)
    behaviours: deque[Behaviour] = field(default_factory=deque)
    attempts: list[Attempt] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, *behaviours: Behaviour) -> None:
        """For the next requests, one each; afterwards it is well again."""
        self.behaviours.extend(behaviours)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    def behaviour_for(self, attempt: Attempt) -> Behaviour:
        return self.behaviours.popleft() if self.behaviours else self.default

    def began(self, attempt: Attempt) -> None:
        """For engines that keep records."""

    def ended(self, attempt: Attempt) -> None:
        """However it ended."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        line = Line(reader, writer)
        try:
            with contextlib.suppress(Aborted, ConnectionError, asyncio.IncompleteReadError):
                while await self._one(line):
                    pass
        except asyncio.CancelledError:
            line.break_off()
            raise
        finally:
            line.close()

    async def _one(self, line: "Line") -> bool:
        attempt = await line.request()
        if attempt is None:
            return False
        behaviour = self.behaviour_for(attempt)
        self.attempts.append(attempt)
        self.began(attempt)
        try:
            await self._answer(line, attempt, behaviour)
        except (Aborted, ConnectionError):
            attempt.ending = "aborted"
            raise
        except asyncio.CancelledError:
            attempt.ending = "cancelled"
            raise
        finally:
            self.ended(attempt)
        return not (behaviour.close_afterwards or behaviour.reset or behaviour.raw is not None)

    async def _answer(self, line: "Line", attempt: Attempt, behaviour: Behaviour) -> None:
        line.piece_bytes = behaviour.piece_bytes
        if behaviour.before_first_seconds:
            await line.sleep(behaviour.before_first_seconds)
        if behaviour.begins is not None:
            await line.until(behaviour.begins)
        if behaviour.reset:
            attempt.ending = "failed"
        elif behaviour.raw is not None:
            attempt.ending = "failed"
            await line.write(behaviour.raw)
        elif behaviour.status != 200:
            attempt.ending = "failed"
            error = {"message": behaviour.error, "type": "BadRequestError", "param": None, "code": 400}
            await line.whole(behaviour.status, {"error": error})
        elif attempt.path == "/v1/messages/count_tokens":
            await line.whole(200, {"input_tokens": behaviour.prompt_tokens, "context_management": None})
            attempt.ending = "finished"
        elif attempt.path == "/tokenize":
            tokens = list(range(behaviour.prompt_tokens))
            await line.whole(200, {"count": len(tokens), "max_model_len": 8192, "tokens": tokens})
            attempt.ending = "finished"
        elif attempt.path == "/v1/embeddings":
            await line.whole(200, embeddings(attempt, behaviour))
            attempt.ending = "finished"
        elif attempt.path == "/v1/audio/transcriptions":
            await self._transcribe(line, attempt, behaviour)
        elif attempt.path in ("/v1/messages", "/v1/responses") and attempt.body.get("stream"):
            await self._named_stream(line, attempt, behaviour)
        elif attempt.body.get("stream"):
            await self._stream(line, attempt, behaviour)
        else:
            await self._whole(line, attempt, behaviour)

    async def _whole(self, line: "Line", attempt: Attempt, behaviour: Behaviour) -> None:
        reply = Words(attempt, behaviour)
        for _ in range(reply.tokens):
            if behaviour.before_each_seconds:
                await line.sleep(behaviour.before_each_seconds)
            attempt.prompt = behaviour.prompt_tokens
            attempt.yielded += reply.choices
        named = attempt.path in ("/v1/messages", "/v1/responses")
        await line.whole(200, self._named(attempt, behaviour).whole() if named else reply.whole())
        attempt.ending = "finished"

    async def _stream(self, line: "Line", attempt: Attempt, behaviour: Behaviour) -> None:
        reply = Words(attempt, behaviour)
        await self._begin(line, behaviour)
        attempt.prompt = behaviour.prompt_tokens
        for index in range(reply.choices):
            await line.event(reply.chunk(index, "", 0))
        for number in range(1, reply.tokens + 1):
            for index in range(reply.choices):
                if behaviour.before_each_seconds:
                    await line.sleep(behaviour.before_each_seconds)
                attempt.yielded += 1
                await line.event(reply.chunk(index, f" {behaviour.text}{number}", number))
            if await self._fails_after(number, line, attempt, behaviour):
                return
        if behaviour.before_done_seconds:
            await line.sleep(behaviour.before_done_seconds)
        if behaviour.ends is not None:
            await line.until(behaviour.ends)
        if attempt.body.get("stream_options", {}).get("include_usage"):
            await line.event(reply.final())
        attempt.ending = "finished"
        await line.done()

    async def _begin(self, line: "Line", behaviour: Behaviour) -> None:
        headers = (
            b"x-headrace-cached-tokens: %d\r\n" % behaviour.cached_tokens if behaviour.cached_header else b""
        )
        await line.begin(b"text/event-stream; charset=utf-8", headers)

    async def _fails_after(self, number: int, line: "Line", attempt: Attempt, behaviour: Behaviour) -> bool:
        """Whether the stream is over after so many tokens, in one of the ways in which it should not be."""
        if behaviour.break_after == number:
            attempt.ending = "failed"
            line.break_off()
            raise ConnectionError
        if behaviour.end_after == number:
            attempt.ending = "failed"
            await line.end()
            return True
        if behaviour.error_event_after == number:
            attempt.ending = "failed"
            await line.event({"error": {"message": "engine died", "code": 500}})
            await line.done()
            return True
        if behaviour.hang_after == number:
            await line.sleep(3600)
        return False

    async def _transcribe(self, line: "Line", attempt: Attempt, behaviour: Behaviour) -> None:
        reply = Transcription(
            attempt.body,
            id=attempt.id,
            text=behaviour.text,
            prompt=behaviour.prompt_tokens,
            tokens=behaviour.tokens,
            clips=behaviour.clips,
            finish=behaviour.finish,
        )
        if not reply.streamed:
            attempt.prompt, attempt.yielded = reply.counts_after(reply.tokens * reply.clips)
            await line.whole(200, reply.whole())
            attempt.ending = "finished"
            return
        await self._begin(line, behaviour)
        above: dict[str, Any] | None = None
        for number in range(1, reply.tokens * reply.clips + 1):
            if behaviour.before_each_seconds:
                await line.sleep(behaviour.before_each_seconds)
            attempt.prompt, attempt.yielded = reply.counts_after(number)
            if behaviour.running_counts:
                above = reply.running_counts(number, cached=behaviour.cached_tokens)
            await line.event(reply.chunk(number, counted=behaviour.continuous_usage), above)
            if await self._fails_after(number, line, attempt, behaviour):
                return
        if behaviour.before_done_seconds:
            await line.sleep(behaviour.before_done_seconds)
        if reply.tells_usage:
            await line.event(reply.final(), above)
        attempt.ending = "finished"
        await line.done()

    def _named(self, attempt: Attempt, behaviour: Behaviour) -> Messages | ResponseReply:
        """A reply in a dialect whose events have names."""
        if attempt.path == "/v1/messages":
            return message(attempt, behaviour)
        return response(attempt, behaviour)

    async def _named_stream(self, line: "Line", attempt: Attempt, behaviour: Behaviour) -> None:
        reply = self._named(attempt, behaviour)
        await line.begin(b"text/event-stream; charset=utf-8")
        attempt.prompt = behaviour.prompt_tokens
        deltas = 0
        for event, yielded in reply.events():
            delta = event["type"] == "content_block_delta" or event["type"].endswith(".delta")
            if delta and behaviour.before_each_seconds:
                await line.sleep(behaviour.before_each_seconds)
            if event["type"] in ("message_stop", "response.completed") and behaviour.before_done_seconds:
                await line.sleep(behaviour.before_done_seconds)
            attempt.yielded = yielded
            counts = reply.counts(yielded) if behaviour.continuous_usage else None
            await line.named_event(event, counts)
            deltas += delta
            if delta and behaviour.break_after == deltas:
                attempt.ending = "failed"
                line.break_off()
                raise ConnectionError
            if delta and behaviour.error_event_after == deltas:
                attempt.ending = "failed"
                error = {"type": "internal_error", "message": "engine died"}
                await line.named_event({"type": "error", "error": error}, None)
                await line.end()
                return
            if delta and behaviour.hang_after == deltas:
                await line.sleep(3600)
        attempt.ending = "finished"
        await line.end()


def message(attempt: Attempt, behaviour: Behaviour) -> Messages:
    return Messages(
        request_id=attempt.id,
        model=attempt.body["model"],
        prompt=behaviour.prompt_tokens,
        cached=behaviour.cached_tokens,
        tokens=min(behaviour.tokens, attempt.body["max_tokens"]),
        thinking_tokens=behaviour.thinking_tokens,
        tool=behaviour.tool,
        text=behaviour.text,
    )


def response(attempt: Attempt, behaviour: Behaviour) -> ResponseReply:
    return ResponseReply(
        body=attempt.body,
        prompt=behaviour.prompt_tokens,
        cached=behaviour.cached_tokens,
        tokens=min(behaviour.tokens, attempt.body.get("max_output_tokens", behaviour.tokens)),
        thinking_tokens=behaviour.thinking_tokens,
        tool=behaviour.tool,
        text=behaviour.text,
    )


def embeddings(attempt: Attempt, behaviour: Behaviour) -> dict[str, Any]:
    """One vector an input; the prompt's tokens are those of each."""
    given = attempt.body["input"]
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    attempt.prompt = behaviour.prompt_tokens * len(inputs)
    vector: Any = "AACAPwAAAEA=" if attempt.body.get("encoding_format") == "base64" else [1.0, 2.0]
    return {
        "id": f"embd-{attempt.id}",
        "object": "list",
        "created": 1_790_000_000,
        "model": attempt.body["model"],
        "data": [
            {"index": index, "object": "embedding", "embedding": vector} for index, _ in enumerate(inputs)
        ],
        "usage": {"prompt_tokens": attempt.prompt, "total_tokens": attempt.prompt, "completion_tokens": 0},
    }


class Words:
    """What vLLM would write for a reply."""

    def __init__(self, attempt: Attempt, behaviour: Behaviour) -> None:
        self._attempt = attempt
        self._behaviour = behaviour
        self._chat = attempt.path == "/v1/chat/completions"
        body = attempt.body
        prompt = body.get("prompt")
        self.prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
        self.choices = (body.get("n") or 1) * self.prompts
        most = body.get("max_completion_tokens") or body.get("max_tokens") or behaviour.tokens
        self.tokens = min(behaviour.tokens, most)

    def chunk(self, index: int, text: str, tokens: int) -> dict[str, Any]:
        last = tokens == self.tokens
        choice: dict[str, Any] = {"index": index}
        if self._chat:
            choice["delta"] = self._delta(text, tokens)
        else:
            choice["text"] = text
        choice |= {"logprobs": None, "finish_reason": self._finish if last else None}
        fields = self._envelope() | {"choices": [choice]}
        if self._behaviour.continuous_usage:
            fields["usage"] = self._usage(tokens, prompts=1)
        return fields

    def final(self) -> dict[str, Any]:
        usage = self._usage(self.tokens * self.choices, prompts=self.prompts)
        usage["prompt_tokens_details"] = {"cached_tokens": self._behaviour.cached_tokens}
        return self._envelope() | {"choices": [], "usage": usage}

    def whole(self) -> dict[str, Any]:
        text = "".join(f" {self._behaviour.text}{number}" for number in range(1, self.tokens + 1))
        choices: list[dict[str, Any]] = [
            {"index": index, "finish_reason": self._finish, "logprobs": None}
            | ({"message": self._message()} if self._chat else {"text": text})
            for index in range(self.choices)
        ]
        return self._envelope(whole=True) | {"choices": choices, "usage": self.final()["usage"]}

    @property
    def _finish(self) -> str:
        return "tool_calls" if self._behaviour.tool else self._behaviour.finish

    def _delta(self, text: str, tokens: int) -> dict[str, Any]:
        """What is new with this many tokens: thoughts first, then words or the call of a tool."""
        said = tokens - self._behaviour.thinking_tokens
        if not tokens:
            return {"role": "assistant", "content": ""}
        if said <= 0:
            return {"reasoning": text}
        if not self._behaviour.tool:
            return {"content": text}
        call: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
        if said == 1:
            call |= {
                "id": "call_1",
                "type": "function",
                "function": {"name": "say", "arguments": '{"words":"'},
            }
        elif tokens == self.tokens:
            call["function"] = {"arguments": '"}'}
        return {"tool_calls": [call]}

    def _message(self) -> dict[str, Any]:
        """The same in one piece, with the fields that vLLM leaves empty."""
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "reasoning": None}
        for number in range(1, self.tokens + 1):
            for name, new in self._delta(f" {self._behaviour.text}{number}", number).items():
                if name != "tool_calls":
                    message[name] = (message[name] or "") + new
                elif "id" in new[0]:
                    message[name] = [{each: new[0][each] for each in ("id", "type", "function")}]
                else:
                    message[name][0]["function"]["arguments"] += new[0]["function"]["arguments"]
        return message

    def _envelope(self, *, whole: bool = False) -> dict[str, Any]:
        kind = "chat.completion" if self._chat else "text_completion"
        return {
            "id": f"chatcmpl-{self._attempt.id}",
            "object": kind if whole or not self._chat else f"{kind}.chunk",
            "created": 1_790_000_000,
            "model": self._attempt.body["model"],
        }

    def _usage(self, completion: int, *, prompts: int) -> dict[str, Any]:
        prompt = self._behaviour.prompt_tokens * prompts
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }


def comment(counts: dict[str, Any] | None) -> bytes:
    return b"" if counts is None else b": headrace-usage %b\n" % json.dumps(counts).encode()


def body_of(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    content_type = headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        return form_of(content_type, body)
    fields: dict[str, Any] = json.loads(body)
    return fields


class Line:
    """One connection: HTTP by hand, so that it can be wrong on purpose."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ahead: asyncio.Task[bytes] | None = None
        self.piece_bytes: int | None = None

    async def request(self) -> Attempt | None:
        data = await self._ahead if self._ahead is not None else b""
        self._ahead = None
        while b"\r\n\r\n" not in data:
            more = await self._reader.read(READ_BYTES)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body += await self._reader.readexactly(int(headers["content-length"]) - len(body))
        return Attempt(path=first.split()[1], headers=headers, body=body_of(headers, body))

    async def sleep(self, seconds: float) -> None:
        """Raises `Aborted` as soon as the other side goes."""
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._reader.read(READ_BYTES))
        done, _ = await asyncio.wait((self._ahead,), timeout=seconds)
        if done and not self._heard():
            raise Aborted

    async def until(self, event: asyncio.Event) -> None:
        """Returns when it is set; raises `Aborted` as soon as the other side goes."""
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._reader.read(READ_BYTES))
        setting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait((self._ahead, setting), return_when=asyncio.FIRST_COMPLETED)
            if self._ahead.done() and not self._heard():
                raise Aborted
            await setting
        finally:
            setting.cancel()

    def _heard(self) -> bytes:
        assert self._ahead is not None
        try:
            return self._ahead.result()
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        size = self.piece_bytes or len(data)
        for at in range(0, len(data), max(1, size)):
            self._writer.write(data[at : at + size])
            await self._writer.drain()
            if self.piece_bytes:
                await asyncio.sleep(0)
        await self.sleep(0)

    async def whole(self, status: int, fields: dict[str, Any]) -> None:
        body = json.dumps(fields).encode()
        reason = REASONS.get(status, b"Other")
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        await self.write(head % (status, reason, len(body)) + body)

    async def begin(self, content_type: bytes, headers: bytes = b"") -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n%b\r\n"
        await self.write(head % (content_type, headers))

    async def event(self, fields: dict[str, Any], counts: dict[str, Any] | None = None) -> None:
        payload = json.dumps(fields, separators=(",", ":")).encode()
        await self._chunk(b"%bdata: %b\n\n" % (comment(counts), payload))

    async def named_event(self, fields: dict[str, Any], counts: dict[str, Any] | None) -> None:
        payload = json.dumps(fields, separators=(",", ":")).encode()
        await self._chunk(b"%bevent: %b\ndata: %b\n\n" % (comment(counts), fields["type"].encode(), payload))

    async def done(self) -> None:
        await self._chunk(b"data: [DONE]\n\n")
        await self.end()

    async def end(self) -> None:
        await self.write(b"0\r\n\r\n")

    async def _chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def break_off(self) -> None:
        self._writer.transport.abort()

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
        self._writer.close()


@contextlib.asynccontextmanager
async def running_engine(default: Behaviour | None = None) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(default=default or Behaviour())
    async with serving(engine):
        yield engine


@contextlib.asynccontextmanager
async def serving(engine: FakeEngine) -> AsyncIterator[None]:
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(engine.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
