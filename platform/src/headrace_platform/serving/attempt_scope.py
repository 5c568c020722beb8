"""ASGI around the engine's server app: every HTTP request is one attempt, known to whatever runs inside it."""

import asyncio

from headrace_contracts.engine import CACHED_TOKENS_HEADER
from headrace_platform.serving import attempts
from headrace_platform.serving.asgi import Application, Message, Receive, Scope, Send
from headrace_platform.serving.attempts import Attempt, Recorder
from headrace_platform.serving.running_counts import tell_counts

REQUEST_ID = b"x-request-id"


class AttemptScope:
    def __init__(self, app: Application, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        attempt = self._recorder.attempt(request_id(scope))
        token = attempts.current.set(attempt)
        try:
            await self._app(scope, receive, tell_counts(tell_cached(send, attempt), attempt, scope))
        except asyncio.CancelledError:
            # Serve cancels the request of a client that hung up. vLLM answers unstreamed ones in a task of its
            # own, which does not hear of that and would generate to the end.
            attempt.abandon()
            raise
        finally:
            attempts.current.reset(token)
            attempt.close()


def tell_cached(send: Send, attempt: Attempt) -> Send:
    """Adds the cached tokens to the reply's headers.

    They are known with the first token, so the headers wait for the first bytes of the body.
    """
    held: Message | None = None

    async def hold(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            held = message
            return
        if held is not None and (message.get("body") or not message.get("more_body", False)):
            start, held = held, None
            if attempt.cached is not None:
                header = (CACHED_TOKENS_HEADER.encode(), str(attempt.cached).encode())
                start["headers"] = [*start.get("headers", ()), header]
            await send(start)
        if held is None:
            await send(message)

    return hold


def request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if bytes(name).lower() == REQUEST_ID:
            return bytes(value).decode("latin-1")
    return None
