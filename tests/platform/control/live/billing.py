"""Billing's door for GPU time over real HTTP: it keeps what it gets, by identity, as far as these tests need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from headrace_billing.gpu_time.arrival import read
from headrace_contracts.gpu_time import (
    GpuTimeBatch,
    GpuTimeEvent,
    GpuTimeReply,
    GpuTimeResult,
    encode_gpu_time,
)
from headrace_contracts.ingest import EventOutcome
from headrace_contracts.usage import Grade
from tests.support.http_server import serving_app

TOKEN = "ingest-token-of-the-tests"
Identity = tuple[str, int, Grade]


@dataclass
class BillingDouble:
    events: dict[Identity, GpuTimeEvent] = field(default_factory=dict)
    conflicts: list[GpuTimeEvent] = field(default_factory=list)
    is_away: bool = False
    loses_answers: bool = False
    """Takes what comes and answers 503."""
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        if self.is_away or request.headers["Authorization"] != f"Bearer {TOKEN}":
            return web.Response(status=503)
        batch = msgspec.json.decode(await request.read(), type=GpuTimeBatch)
        results = [self._take(event) for event in batch.events]
        if self.loses_answers:
            return web.Response(status=503)
        reply = msgspec.json.encode(GpuTimeReply(results=results))
        return web.Response(body=reply, content_type="application/json")

    def _take(self, event: GpuTimeEvent) -> GpuTimeResult:
        # By the real one's own rules.
        assert read(encode_gpu_time(event)).refusal is None
        identity = (event.pod, event.hour_us, event.grade)
        outcome = EventOutcome.DUPLICATE if identity in self.events else EventOutcome.ACCEPTED
        if self.events.setdefault(identity, event) != event:
            self.conflicts.append(event)
            outcome = EventOutcome.CONFLICT
        return GpuTimeResult(pod=event.pod, hour_us=event.hour_us, outcome=outcome)

    def gpu_minutes(self) -> float:
        """As billing would tell it: the highest grade of each pod and hour."""
        best = {(pod, hour): self.events[pod, hour, grade] for pod, hour, grade in sorted(self.events)}
        return sum(event.gpu_ms for event in best.values()) / 60_000


@asynccontextmanager
async def serving_billing() -> AsyncIterator[BillingDouble]:
    billing = BillingDouble()
    app = web.Application()
    app.router.add_post("/internal/v1/gpu-time", billing.take)
    async with serving_app(app) as billing.url:
        yield billing
