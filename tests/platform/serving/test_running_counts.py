"""What stands above the events of a stream whose dialect tells usage only at its ends."""

import json
from typing import Any

import pytest

from headrace_contracts.engine import RUNNING_COUNTS_COMMENT, EngineEnding
from headrace_platform.serving import attempts
from headrace_platform.serving.asgi import Message, Receive, Scope, Send
from headrace_platform.serving.attempt_scope import AttemptScope
from tests.platform.serving.records import ATTEMPT, Kept

EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'


async def streamed(
    *bodies: bytes,
    path: str = "/v1/messages",
    request_id: str = ATTEMPT,
    content_type: bytes = b"text/event-stream; charset=utf-8",
) -> tuple[list[bytes], Kept]:
    """The bodies that leave the scope when the engine has yielded one more token before each."""
    kept, sent = Kept(), []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        attempt = attempts.current.get()
        assert attempt is not None
        part = attempt.part("chatcmpl-1", prompt_tokens=15)
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}
        await send(start)
        for body in bodies:
            part.read(prompt=15, cached=8)
            part.yielded(0, 1, cumulative=False)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        part.end(EngineEnding.FINISHED)

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.body":
            sent.append(bytes(message["body"]))

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: dict[str, Any] = {
        "type": "http",
        "path": path,
        "headers": [(b"x-request-id", request_id.encode())],
    }
    await AttemptScope(app, kept.recorder())(scope, receive, collect)
    return sent, kept


def counts_above(body: bytes) -> tuple[int, int, int]:
    comment, _, event = body.partition(b"\n")
    assert event == EVENT
    prefix = RUNNING_COUNTS_COMMENT.encode()
    assert comment.startswith(prefix)
    usage = json.loads(comment.removeprefix(prefix))
    return (
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
    )


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_every_event_has_the_counts_up_to_it(path: str) -> None:
    bodies, kept = await streamed(EVENT, EVENT, EVENT, path=path)

    assert [counts_above(body) for body in bodies[:-1]] == [(15, 8, 1), (15, 8, 2), (15, 8, 3)]
    assert bodies[-1] == b""
    assert (kept.last.prompt, kept.last.cached, kept.last.output) == counts_above(bodies[-2])


async def test_an_event_in_pieces_is_not_cut_by_counts() -> None:
    bodies, _ = await streamed(EVENT[:20], EVENT[20:], EVENT)

    assert bodies[1] == EVENT[20:]
    assert counts_above(bodies[0] + bodies[1]) == (15, 8, 1)
    assert counts_above(bodies[2]) == (15, 8, 3)


async def test_a_chat_stream_counts_for_itself() -> None:
    bodies, _ = await streamed(EVENT, path="/v1/chat/completions")
    assert bodies == [EVENT, b""]


async def test_a_stranger_gets_the_engine_s_stream_as_it_is() -> None:
    bodies, _ = await streamed(EVENT, request_id="42")
    assert bodies == [EVENT, b""]


async def test_a_whole_reply_is_left_as_it_is() -> None:
    bodies, _ = await streamed(b'{"type":"message"}', content_type=b"application/json")
    assert bodies == [b'{"type":"message"}', b""]
