"""An engine that answers at once: `python -m benchmarks.gateway.engine PORT CHUNKS CHUNK_MILLISECONDS`.

It says what our engine says, a token a chunk, with the counts that it was asked for and what was cached in a header;
streams keep a pace, as tokens do.
Everything is made beforehand, so that its share of the core is small.
"""

import asyncio
import random
import sys
import time
from functools import partial
from typing import cast

import uvloop
from benchmarks.gateway.pace import Pace

from headrace_contracts.engine import CACHED_TOKENS_HEADER

HOST = "127.0.0.1"
JITTER = 0.1
"""Of a chunk's time, either way: streams that began together come apart."""

MODEL = "glm-bench"
USAGE = (
    b'"usage":{"prompt_tokens":64,"total_tokens":%d,"completion_tokens":%d,'
    b'"completion_tokens_details":{"reasoning_tokens":0}}'
)
PROMPT_TOKENS, CACHED_TOKENS = 64, 48
TEXT = b"Air scatters blue light more than red. " * 6
HEAD = b'{"id":"chatcmpl-0123456789abcdef","object":"chat.completion%b","created":1790000000,"model":"glm-bench",'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"%b: %d\r\n\r\n"
) % (CACHED_TOKENS_HEADER.encode(), CACHED_TOKENS)


class Engine(asyncio.Protocol):
    plain = b""
    pieces: tuple[bytes, ...] = ()
    pieces_counted: tuple[bytes, ...] = ()
    chunk_ns = 0.0
    pace: Pace

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._seen = b""
        self._gone = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._gone = True

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, whole, body = self._seen.partition(b"\r\n\r\n")
        if not whole or not _is_whole(head.lower(), body):
            return
        self._seen = b""
        if head.startswith(b"GET"):
            self._transport.write(
                whole_answer(b'{"object":"list","data":[{"id":"glm-bench","object":"model"}]}')
            )
        elif b'"stream":true' not in body.replace(b'"stream": true', b'"stream":true'):
            self._transport.write(self.plain)
        else:
            self._transport.write(STREAM_HEAD)
            counted = b'"continuous_usage_stats":true' in body
            self._send(self.pieces_counted if counted else self.pieces, 0, time.monotonic_ns())

    def _send(self, pieces: tuple[bytes, ...], number: int, due_ns: int) -> None:
        if self._gone:
            return
        self._transport.write(pieces[number])
        if number + 1 < len(pieces):
            due_ns += int(self.chunk_ns * random.uniform(1 - JITTER, 1 + JITTER))
            self.pace.at(due_ns, partial(self._send, pieces, number + 1, due_ns))


def _is_whole(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
    return len(body) >= int(length or 0)


def whole_answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def completion() -> bytes:
    message = b'"choices":[{"index":0,"message":{"role":"assistant","content":"%b"},"logprobs":null,"finish_reason":"stop"}],'
    return HEAD % b"" + message % TEXT + USAGE % (PROMPT_TOKENS + 60, 60) + b"}"


def stream(chunks: int, *, counted: bool) -> tuple[bytes, ...]:
    """One piece a token, then the last one: the whole usage and the end."""
    delta = b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":%b,"token_ids":null}]'
    head = HEAD % b".chunk"
    pieces = []
    for number in range(1, chunks + 1):
        choice = delta % (b'"length"' if number == chunks else b"null")
        counts = b"," + USAGE % (PROMPT_TOKENS + number, number) if counted else b""
        pieces.append(_chunk(head + choice + counts + b"}"))
    last = head + b'"choices":[],' + USAGE % (PROMPT_TOKENS + chunks, chunks) + b"}"
    return (*pieces, _chunk(last) + _chunk(b"[DONE]") + b"0\r\n\r\n")


def _chunk(payload: bytes) -> bytes:
    event = b"data: %b\n\n" % payload
    return b"%x\r\n%b\r\n" % (len(event), event)


async def run(port: int, chunks: int, chunk_milliseconds: float) -> None:
    Engine.plain = whole_answer(completion())
    Engine.pieces = stream(chunks, counted=False)
    Engine.pieces_counted = stream(chunks, counted=True)
    Engine.chunk_ns = chunk_milliseconds * 1e6
    Engine.pace = Pace()
    server = await asyncio.get_running_loop().create_server(Engine, HOST, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
