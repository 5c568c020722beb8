"""A plain client of `/v1/chat/completions`, of the standard library alone, so that it runs in any environment."""

import json
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Self
from urllib.parse import urlsplit

# A long story on a busy core; nothing asked here takes longer.
REPLY_SECONDS_MAX = 180.0
OUTPUT_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    finish_reason: str
    calls: list[tuple[str, dict[str, Any]]]
    output_tokens: int


class ReplyRefused(HTTPException):
    """The server answered with an error."""

    code = "reply_refused"


@dataclass(slots=True)
class ChatClient:
    """One connection a thread, all closed when the `with` block ends."""

    url: str
    model: str = "glm-tiny"
    token: str | None = None
    _own: threading.local = field(default_factory=threading.local)
    _opened: list[HTTPConnection] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._opened:
            connection.close()

    def chat(
        self,
        question: str,
        *,
        tools: list[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        thinking: bool = True,
        output_tokens: int = OUTPUT_TOKENS,
    ) -> Reply:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": output_tokens,
        }
        if tools:
            body |= {"tools": tools, "tool_choice": tool_choice}
        if not thinking:
            body["chat_template_kwargs"] = {"enable_thinking": False}
        answer = self._post("/v1/chat/completions", body)
        choice = answer["choices"][0]
        called = [call["function"] for call in choice["message"].get("tool_calls") or []]
        return Reply(
            text=choice["message"].get("content") or "",
            finish_reason=choice["finish_reason"],
            calls=[(function["name"], _arguments(function["arguments"])) for function in called],
            output_tokens=answer["usage"]["completion_tokens"],
        )

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._connection()
        connection.request("POST", path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        received = response.read()
        if response.status != 200:
            raise ReplyRefused(f"{response.status}: {received[:500]!r}")
        return json.loads(received)

    def _connection(self) -> HTTPConnection:
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            address = urlsplit(self.url)
            assert address.hostname is not None, self.url
            kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
            connection = kind(address.hostname, address.port, timeout=REPLY_SECONDS_MAX)
            self._own.connection = connection
            self._opened.append(connection)
        return connection


def _arguments(text: str) -> dict[str, Any]:
    """What is no JSON object is wrong arguments, not a failed evaluation."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return {"": text}
    return parsed if isinstance(parsed, dict) else {"": parsed}
