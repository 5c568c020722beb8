"""A gateway as batches meet it, over real HTTP: it knows its tokens and models, keeps what it answered, and misbehaves as told."""

import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from headrace_contracts.batch_tokens import key_behind
from tests.billing.seller import INGEST_TOKEN, MODEL
from tests.support.http_server import serving_app


@dataclass(frozen=True, slots=True)
class Says:
    """To one request, instead of an answer."""

    status: int = 503
    retry_after: int | None = None
    hangs_up: bool = False
    """Without a word."""
    serves_first: bool = False
    """Although it answers otherwise, the request ran, and its answer is kept."""


@dataclass
class ScriptedGateway:
    script: deque[Says] = field(default_factory=deque)
    url: str = ""
    served: Counter[str] = field(default_factory=Counter)
    """How often each request ran, by what it said."""
    asked: int = 0
    sessions: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    _kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def says(self, *says: Says) -> None:
        """To the next requests, one each; afterwards it is well again."""
        self.script.extend(says)

    def forget(self) -> None:
        """As it does with answers after an hour."""
        self._kept.clear()

    async def complete(self, request: web.Request) -> web.Response:
        self.asked += 1
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.keys.add(key_behind(token, INGEST_TOKEN, now=time.time()))
        self.sessions.add(request.headers["x-session-id"])
        said = self.script.popleft() if self.script else None
        if said is None or said.serves_first:
            answer = self._answer(request.headers["idempotency-key"], await request.json())
            if said is None:
                return web.json_response(answer, dumps=indented, headers={"x-request-id": answer["id"]})
        assert said is not None
        if said.hangs_up:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        headers = {} if said.retry_after is None else {"retry-after": str(said.retry_after)}
        error = {"message": "no", "type": "error", "param": None, "code": f"said_{said.status}"}
        return web.json_response({"error": error}, status=said.status, headers=headers)

    def _answer(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if key not in self._kept:
            said = str(body["messages"][0]["content"])
            self.served[said] += 1
            self._kept[key] = {"id": f"req-{len(self._kept)}", "echo": said}
        return self._kept[key]

    async def model(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if request.match_info["name"] == MODEL else 404)


def indented(answer: object) -> str:
    """On many lines, as no line of a file may be."""
    return json.dumps(answer, indent=2)


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", gateway.complete)
    app.router.add_get("/v1/models/{name}", gateway.model)
    async with serving_app(app) as url:
        gateway.url = url
        yield gateway
