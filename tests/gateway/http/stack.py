"""A whole gateway in this process: its server, the real meter on a real Valkey, an engine that does as it is told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import httpx2 as httpx
import msgspec
import openai

from headrace_contracts.deployments import Deployment, DeploymentTable, encode_table
from headrace_contracts.usage import UsageEvent
from headrace_gateway.guardrails.guards import PlugIn, open_guards
from headrace_gateway.http.batches import Batches
from headrace_gateway.http.bodies import Bodies
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.inference import Inference, InferenceBounds
from headrace_gateway.http.large_bodies import LargeBodies
from headrace_gateway.http.models import Models
from headrace_gateway.http.responses import Responses
from headrace_gateway.http.router import Gateway
from headrace_gateway.http.server import Listening, serve
from headrace_gateway.http.signed_tokens import SignedTokens
from headrace_gateway.http.token_counts import TokenCounts
from headrace_gateway.http.trace import Traces
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.responses.store import ResponseStore, StoreBounds
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.lines import Lines, QueueBounds
from headrace_gateway.routing.upstream.client import Upstream, UpstreamBounds, UpstreamTimeouts
from headrace_telemetry.traces import Spans
from tests.gateway.account import DEPLOYMENT, MODEL, Account
from tests.gateway.waiting import eventually
from tests.support.upstream import FakeEngine, running_engine

BODY_BYTES_MAX = 64 * 1024
AUDIO_BODY_BYTES_MAX = 2 * 1024 * 1024
LARGE_BODIES_BYTES_MAX = 4 * AUDIO_BODY_BYTES_MAX
ORG_FILES_MAX = 4
SLICE_TOKENS = 8
TABLE = "deployments.json"
BOUNDS = InferenceBounds(
    body_bytes_max=BODY_BYTES_MAX,
    body_timeout_seconds=20,
    reply_bytes_max=1024 * 1024,
    request_timeout_seconds=60,
    audio_body_bytes_max=AUDIO_BODY_BYTES_MAX,
)
QUEUE = QueueBounds(wait_seconds=20, requests_max=64, org_requests_max=48)
TIMEOUTS = UpstreamTimeouts(connect=20.0, first_byte=20.0, idle=20.0)
"""Longer than this process is ever kept waiting: no engine is given up that did nothing wrong."""
SHORT_TIMEOUTS = UpstreamTimeouts(connect=20.0, first_byte=3.0, idle=3.0)


@dataclass
class Stack:
    url: str
    account: Account
    engine: FakeEngine
    meter: GatewayMeter
    gateway: Gateway
    http: httpx.AsyncClient
    openai: openai.AsyncOpenAI
    stop: asyncio.Event
    serving: asyncio.Task[bool]
    deployments: DeploymentsFile
    large_bodies: LargeBodies

    def deploy(self, *deployments: Deployment) -> None:
        """Makes these the deployments there are, from now on."""
        write_table(self.meter.settings.state_dir / TABLE, *deployments)
        self.deployments.look()

    @contextlib.asynccontextmanager
    async def as_(self, account: Account) -> AsyncIterator[httpx.AsyncClient]:
        """Another account's client."""
        headers = {"authorization": f"Bearer {account.secret}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20) as http:
            yield http

    async def post(self, path: str = "/v1/chat/completions", **changes: Any) -> httpx.Response:
        return await self.http.post(path, json=chat(**changes) if "chat" in path else changes)

    def offer(self, **changes: Any) -> None:
        """Replaces what stands behind the model, from the next request on."""
        self.deploy(served_at(self.engine.url, **changes))

    async def raw(self, body: bytes, **headers: str) -> httpx.Response:
        return await self.http.post(
            "/v1/chat/completions",
            content=body,
            headers={"content-type": "application/json"}
            | {k.replace("_", "-"): v for k, v in headers.items()},
        )

    async def events_of(self, **changes: Any) -> list[dict[str, Any] | str]:
        """What a stream says, event by event; the last one as text."""
        reply = await self.post(stream=True, **changes)
        assert reply.status_code == 200, reply.text
        return parsed(reply.text)

    async def settled(self, count: int = 1) -> list[UsageEvent]:
        """The usage events, when so many are there and nothing is held or running any more."""
        await eventually(lambda: len(self.account.events()) >= count)
        await eventually(lambda: not self.meter.running and not self.gateway.running)
        assert self.account.money()[1] == 0, "something is still held"
        events = self.account.events()
        assert len(events) == count, events
        return events


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | changes


def parsed(text: str) -> list[dict[str, Any] | str]:
    payloads = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    return [json.loads(payload) if payload.startswith("{") else payload for payload in payloads]


def text_of(events: list[dict[str, Any] | str]) -> str:
    return "".join(
        choice["delta"].get("content", "")
        for event in events
        if isinstance(event, dict)
        for choice in event["choices"]
    )


@contextlib.asynccontextmanager
async def running_stack(
    account: Account,
    settings: MeterSettings,
    port: int,
    *,
    bounds: InferenceBounds = BOUNDS,
    timeouts: UpstreamTimeouts = TIMEOUTS,
    grace_seconds: float = 5.0,
    signing_secret: bytes | None = None,
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
    slice_tokens: int = SLICE_TOKENS,
    queue: QueueBounds = QUEUE,
    spans: Spans | None = None,
    guards: Sequence[PlugIn] = (),
    connections_max: int = 64,
) -> AsyncIterator[Stack]:
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(running_engine())
        path = settings.state_dir / TABLE
        write_table(path, served_at(engine.url))
        deployments = DeploymentsFile(path)
        meter = await stack.enter_async_context(open_meter(replace(settings, slice_tokens=slice_tokens)))
        upstream = Upstream(timeouts, UpstreamBounds(connections_max=connections_max, keep_idle_seconds=60.0))
        stack.callback(upstream.close)
        addresses = ClientAddresses(trusted_proxies, batch_secret=settings.ingest_token)
        responses = Responses(
            meter,
            ResponseStore(
                meter.limiter.valkey,
                bounds=StoreBounds(org_bytes_max=2**26, all_bytes_max=2**28),
                wait_seconds=settings.settle_wait_seconds,
            ),
            addresses,
        )
        large_bodies = LargeBodies(bytes_max=LARGE_BODIES_BYTES_MAX)
        bodies = Bodies(bounds, large_bodies)
        gateway = Gateway(
            Inference(
                meter,
                deployments,
                upstream,
                bounds,
                addresses,
                responses=responses,
                large_bodies=large_bodies,
                lines=Lines(meter.limiter, queue, newest=deployments.newest),
                traces=Traces(spans),
                guards=open_guards(guards),
            ),
            TokenCounts(meter, deployments, upstream, bodies, addresses, image_hosts=bounds.image_hosts),
            Models(meter, deployments, addresses),
            responses=responses,
            batches=Batches(
                meter,
                upstream,
                addresses,
                billing_url=settings.billing_url,
                secret=settings.ingest_token,
                org_requests_max=ORG_FILES_MAX,
            ),
            signed=SignedTokens(signing_secret),
            not_admitting=lambda: meter.not_ready,
        )
        listening = Listening(
            host="127.0.0.1",
            port=port,
            connections_max=connections_max,
            head_timeout_seconds=20,
            grace_seconds=grace_seconds,
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(gateway, listening, stop=stop))
        url = f"http://127.0.0.1:{port}"
        headers = {"authorization": f"Bearer {account.secret}"}
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=20))
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=account.secret, max_retries=0, timeout=20)
        await stack.enter_async_context(client)
        await listens(port)
        yield Stack(
            url, account, engine, meter, gateway, http, client, stop, serving, deployments, large_bodies
        )
        stop.set()
        await http.aclose()
        await client.close()
        await asyncio.wait_for(serving, 20)


@contextlib.asynccontextmanager
async def running_stacks(
    names: Sequence[str],
    account: Account,
    settings: MeterSettings,
    unused_port: Callable[[], int],
    *,
    connections_max: int = 64,
) -> AsyncIterator[list[Stack]]:
    """Several gateways for the same account, each with an engine of its own."""
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for name in names:
            state_dir = settings.state_dir / name
            state_dir.mkdir()
            own = replace(settings, name=name, state_dir=state_dir)
            opened = running_stack(account, own, unused_port(), connections_max=connections_max)
            running.append(await stack.enter_async_context(opened))
        yield running


def served_at(url: str, **changes: Any) -> Deployment:
    return msgspec.structs.replace(DEPLOYMENT, url=url, **changes)


def write_table(path: Path, *deployments: Deployment) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(encode_table(DeploymentTable(deployments=list(deployments))))
    new.replace(path)


async def listens(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            await writer.wait_closed()
            return


async def refuses(port: int) -> None:
    """Returns when nobody takes connections there any more."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # it waited to be taken when that ended
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            await asyncio.sleep(0.01)
