"""The attempt's counts, written above the events of streams that tell usage only at their ends, or not all of it.

What must stay true: a count stands in the same write as the event up to which it counts, so whoever has the one
has the other; an event is never cut, and whoever is not our gateway sees the engine's stream as it is.
"""

import json

from headrace_contracts.engine import RUNNING_COUNTS_COMMENT
from headrace_platform.serving.asgi import Message, Scope, Send
from headrace_platform.serving.attempts import Attempt

PATHS = ("/v1/messages", "/v1/responses", "/v1/audio/transcriptions")

EVENT_STREAM = b"text/event-stream"
EVENT_END = b"\n\n"


def tell_counts(send: Send, attempt: Attempt, scope: Scope) -> Send:
    """Adds the comment where it is wanted."""
    if attempt.probe or not str(scope.get("path", "")).endswith(PATHS):
        return send
    streamed = False
    between_events = True

    async def told(message: Message) -> None:
        nonlocal streamed, between_events
        if message["type"] == "http.response.start":
            streamed = _is_event_stream(message)
        elif streamed and (body := bytes(message.get("body", b""))):
            if between_events:
                message = {**message, "body": comment(attempt) + body}
            between_events = body.endswith(EVENT_END)
        await send(message)

    return told


def comment(attempt: Attempt) -> bytes:
    counts = attempt.counts
    usage = {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
    }
    return f"{RUNNING_COUNTS_COMMENT}{json.dumps(usage, separators=(',', ':'))}\n".encode()


def _is_event_stream(start: Message) -> bool:
    return any(
        bytes(name).lower() == b"content-type" and bytes(value).startswith(EVENT_STREAM)
        for name, value in start.get("headers", ())
    )
