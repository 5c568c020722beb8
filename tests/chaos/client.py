"""A client as clients are: it streams or waits, reads slowly, hangs up wherever it likes, and tries again elsewhere."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace_contracts.usage import Dialect
from tests.chaos.engine import MODEL, now_us, prompt_of
from tests.chaos.facts import Reply
from tests.chaos.schedule import Visit

PATHS = {
    Dialect.OPENAI_CHAT: "/v1/chat/completions",
    Dialect.OPENAI_COMPLETIONS: "/v1/completions",
    Dialect.ANTHROPIC_MESSAGES: "/v1/messages",
}
TRY_AGAIN = {502, 503}
# With a key nothing runs twice, so what broke off may be asked again too, and what runs is waited for.
TRY_KEY_AGAIN = {*TRY_AGAIN, 409, 504}
PAUSE_SECONDS = 0.3
# Longer than any fault but the slowest Valkey; whoever still waits then has lost patience.
PATIENCE_SECONDS = 60.0
BUFFER_BYTES = 8192
SLOW_READ_SECONDS = 0.04
TOOL = {"name": "say", "description": "Says words.", "parameters": {"type": "object", "properties": {}}}


class HungUp(Exception):
    """By us, as planned."""


@dataclass(slots=True)
class Seen:
    """What has come so far of one answer."""

    request: str | None = None
    status: int | None = None
    answered_at_us: int | None = None
    frames: int = 0
    tokens: int = 0
    whole: bool = False
    replayed: bool = False
    code: str | None = None


async def visit_gateway(visit: Visit, *, port: int, gateway: int, secret: str) -> Reply:
    """One request, to its end or ours."""
    reply = Reply(visit=visit.number, gateway=gateway, sent_at_us=now_us(), has_key=visit.has_key)
    seen = Seen()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _ask(visit, port, secret, seen)
        whole = "given again" if seen.replayed else "whole"
        how = whole if seen.whole else "refused" if seen.status != 200 else "broken off"
    except HungUp:
        how = "hung up"
    except TimeoutError:
        how = "out of patience"
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        how = type(error).__name__
    return replace(
        reply,
        request=seen.request,
        status=seen.status,
        answered_at_us=seen.answered_at_us,
        code=seen.code,
        frames=seen.frames,
        tokens=seen.tokens if seen.whole and seen.status == 200 else None,
        how=how,
    )


def tries_again(reply: Reply) -> bool:
    if reply.has_key:
        return reply.status in TRY_KEY_AGAIN or reply.how not in ("whole", "given again", "refused")
    return reply.status in TRY_AGAIN or (
        reply.status is None and reply.how not in ("hung up", "out of patience")
    )


async def _ask(visit: Visit, port: int, secret: str, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=BUFFER_BYTES)
    try:
        body = json.dumps(body_of(visit)).encode()
        key = f"idempotency-key: visit-{visit.number}\r\n" if visit.has_key else ""
        writer.write(
            f"POST {PATHS[visit.dialect]} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {secret}\r\n{key}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        if visit.hang_up_after is not None and (visit.hang_up_after == 0 or not visit.streamed):
            # The engine works for each frame as long as it would have taken.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_read(visit, reader, seen), visit.hang_up_after * visit.each_seconds)
            raise HungUp
        await _read(visit, reader, seen)
    finally:
        if visit.number % 2:
            writer.transport.abort()
        writer.close()


async def _read(visit: Visit, reader: asyncio.StreamReader, seen: Seen) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    seen.status, seen.answered_at_us = int(head[0].split()[1]), now_us()
    seen.request = headers.get("x-request-id")
    seen.replayed = "idempotent-replayed" in headers
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
        if headers["content-type"].startswith("text/event-stream"):
            # A stream that is given again is all there.
            for frame in body.split(b"\n\n")[:-1]:
                seen.frames += 1
                _take(frame, seen)
            return
        document = json.loads(body)
        seen.code = (document.get("error") or {}).get("code")
        usage = document.get("usage") or {}
        seen.tokens = usage.get("completion_tokens", usage.get("output_tokens", 0))
        seen.whole = seen.code is None
        return
    async for frame in _frames(visit, reader):
        seen.frames += 1
        _take(frame, seen)
        if visit.hang_up_after is not None and seen.frames >= visit.hang_up_after:
            raise HungUp


async def _frames(visit: Visit, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        left = size
        while left:
            piece = await reader.read(min(left, BUFFER_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            rest += piece
            if visit.slow_reader:
                await asyncio.sleep(SLOW_READ_SECONDS)
        await reader.readexactly(2)
        *frames, rest = rest.split(b"\n\n")
        for frame in frames:
            yield frame


def _take(frame: bytes, seen: Seen) -> None:
    payload = frame.rpartition(b"data: ")[2]
    if payload == b"[DONE]":
        seen.whole = seen.code is None
        return
    event = json.loads(payload)
    if event.get("error"):
        seen.code = event["error"].get("code")
    elif event.get("type") == "message_stop":
        seen.whole = True
    elif event.get("type") == "content_block_delta":
        seen.tokens += 1
    else:
        for choice in event.get("choices") or []:
            seen.tokens += bool(choice.get("text") or (choice.get("delta") or {}).get("content"))


def body_of(visit: Visit) -> Mapping[str, Any]:
    body: dict[str, Any] = {"model": MODEL, "stream": visit.streamed}
    if visit.bounded or visit.dialect is Dialect.ANTHROPIC_MESSAGES:
        body["max_tokens"] = visit.tokens if visit.bounded else 1024
    if visit.dialect is Dialect.OPENAI_COMPLETIONS:
        return body | {"prompt": prompt_of(visit)}
    body["messages"] = [{"role": "user", "content": prompt_of(visit)}]
    if visit.dialect is Dialect.OPENAI_CHAT:
        if visit.streamed and visit.number % 2:
            body["stream_options"] = {"include_usage": True}
        if visit.tools:
            body["tools"] = [{"type": "function", "function": TOOL}]
    elif visit.tools:
        schema = TOOL["parameters"]
        body["tools"] = [{"name": TOOL["name"], "description": TOOL["description"], "input_schema": schema}]
    return body
