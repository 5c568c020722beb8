"""Serve's endpoints: one server that answers for every cluster as it is told, over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.http_server import serving_app

COMPLETION = {"choices": [{"index": 0, "message": {"content": "1"}}], "usage": {"completion_tokens": 1}}


@dataclass
class Endpoints:
    statuses: dict[str, int] = field(default_factory=dict)
    """By cluster; 200 where none is given."""
    models: dict[str, str] = field(default_factory=dict)
    """What a cluster serves, where it is not whatever is asked for."""
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def template(self) -> str:
        return f"{self.url}/{{namespace}}/{{cluster}}"

    async def complete(self, request: web.Request) -> web.Response:
        cluster = request.match_info["cluster"]
        self.asked.append(cluster)
        body = await request.json()
        status = self.statuses.get(cluster, 200)
        if body["model"] != self.models.get(cluster, body["model"]):
            status = 404
        if status != 200 or body["max_tokens"] != 1:
            return web.json_response({"error": "told to refuse"}, status=status)
        return web.json_response(COMPLETION)


@asynccontextmanager
async def serving_endpoints() -> AsyncIterator[Endpoints]:
    endpoints = Endpoints()
    app = web.Application()
    app.router.add_post("/{namespace}/{cluster}/v1/chat/completions", endpoints.complete)
    async with serving_app(app) as endpoints.url:
        yield endpoints
