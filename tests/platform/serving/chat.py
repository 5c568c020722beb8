"""A client of the engine, as the gateway is one."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.engine import Engine

TIMEOUT_SECONDS = 120


@contextmanager
def posted(
    engine: Engine, path: str, body: dict[str, Any], attempt: str | None = None
) -> Iterator[http.client.HTTPResponse]:
    """The reply to a request, its body unread; leaving the context hangs up."""
    address = urlsplit(engine.url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json"}
    if attempt is not None:
        headers["X-Request-Id"] = attempt
    try:
        connection.request("POST", path, json.dumps({"model": engine.model, **body}).encode(), headers)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def chat(engine: Engine, content: str, attempt: str | None = None, **more: Any) -> tuple[int, dict[str, Any]]:
    with posted(engine, "/v1/chat/completions", chat_body(content, **more), attempt) as response:
        body: dict[str, Any] = json.loads(response.read())
        return response.status, body


def chat_body(content: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 64, "temperature": 0, **more}


def chunks(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream, without the closing one."""
    for line in response:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))
