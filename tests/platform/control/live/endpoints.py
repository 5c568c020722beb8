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
    replicas: dict[str, int] = field(default_factory=dict)
    """That answer, by cluster, as its head tells in its metrics; where none is given it tells nothing of them."""
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def template(self) -> str:
        return f"{self.url}/{{namespace}}/{{cluster}}"

    @property
    def metrics_template(self) -> str:
        return f"{self.template}/metrics"

    async def metrics(self, request: web.Request) -> web.Response:
        cluster = request.match_info["cluster"]
        lines = ["# TYPE ray_serve_deployment_replica_healthy gauge"]
        if cluster in self.replicas:
            # The last one is still starting, or has stopped.
            lines += [
                f'ray_serve_deployment_replica_healthy{{application="engine",deployment="vllm",replica="r{number}"}}'
                f" {float(number < self.replicas[cluster])}"
                for number in range(self.replicas[cluster] + 1)
            ]
        return web.Response(text="\n".join(lines) + "\n")

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
    app.router.add_get("/{namespace}/{cluster}/metrics", endpoints.metrics)
    async with serving_app(app) as endpoints.url:
        yield endpoints
