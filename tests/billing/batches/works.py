"""All that a batch passes through, as processes: a gateway, billing's API and worker, before an engine that is scripted."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
from openai.types import Batch
from redis.asyncio import Redis

from headrace_contracts import channels
from headrace_contracts.deployments import Deployment, DeploymentTable, encode_table
from tests.billing.batches.lines import jsonl
from tests.billing.seller import INGEST_TOKEN, MODEL, PRICES, Customer, Seller
from tests.billing.test_processes import environment, running, until
from tests.support.upstream import FakeEngine, running_engine

HALF_PRICE = {**PRICES, "batch": "0.5"}


@dataclass
class Works:
    gateway_url: str
    seller: Seller
    customer: Customer
    engine: FakeEngine
    openai: openai.AsyncOpenAI
    billing: dict[str, str]
    """The worker's environment."""
    _worker: ExitStack

    def start_worker(self) -> "subprocess.Popen[bytes]":
        return self._worker.enter_context(running("headrace_billing", "worker", env=self.billing))

    async def begin(self, *lines: dict[str, object], **fields: str) -> Batch:
        file = await self.openai.files.create(file=("in.jsonl", jsonl(*lines)), purpose="batch")
        return await self.openai.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata=fields or None,
        )

    async def becomes(self, batch: Batch, status: str) -> Batch:
        async def has_become() -> bool:
            return (await self.openai.batches.retrieve(batch.id)).status == status

        await until(has_become)
        return await self.openai.batches.retrieve(batch.id)

    async def content(self, file_id: str | None) -> str:
        assert file_id is not None
        return (await self.openai.files.content(file_id)).text


@contextlib.asynccontextmanager
async def working(
    database_url: str, valkey_url: str, valkey: Redis, folder: Path, unused_port: Callable[[], int]
) -> AsyncIterator[Works]:
    api_port, gateway_port = unused_port(), unused_port()
    api_url, gateway_url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{gateway_port}"
    billing = {
        **environment(database_url, valkey_url, api_port),
        "HEADRACE_BILLING_GATEWAY_URL": gateway_url,
        "HEADRACE_BILLING_BATCH_REQUESTS_MAX": "4",
    }
    await valkey.set(channels.EPOCH, "1")
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(running_engine())
        gateway = _gateway(engine, valkey_url, api_url, gateway_port, folder)
        stack.enter_context(running("headrace_billing", "api", env=billing))
        stack.enter_context(running("headrace_gateway", env={**gateway, "PATH": billing["PATH"]}))
        worker = stack.enter_context(ExitStack())
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=api_url))
        for url in (f"{api_url}/readyz", f"{gateway_url}/readyz"):
            await _answers(http, url)
        seller = Seller(http)
        await seller.publish_prices(HALF_PRICE)
        customer = await seller.customer()
        client = openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=customer.secret, max_retries=0)
        await stack.enter_async_context(client)
        yield Works(gateway_url, seller, customer, engine, client, billing, worker)


def _gateway(engine: FakeEngine, valkey_url: str, api_url: str, port: int, folder: Path) -> dict[str, str]:
    deployments = folder / "deployments.json"
    served = Deployment(
        id="deployment_1",
        model=MODEL,
        url=engine.url,
        engine_model=MODEL,
        revision="r1",
        context_tokens=8192,
        prompt_overhead_tokens=8,
        slots=4,
    )
    deployments.write_bytes(encode_table(DeploymentTable(deployments=[served])))
    settings = {
        "PORT": str(port),
        "VALKEY_URL": valkey_url,
        "BILLING_URL": api_url,
        "INGEST_TOKEN": INGEST_TOKEN,
        "STATE_DIR": str(folder),
        "DEPLOYMENTS": str(deployments),
        "NAME": "gateway",
        "CONNECTIONS_MAX": "64",
        "JOURNAL_SEGMENT_BYTES": str(512 * 1024),
        "JOURNAL_BYTES_MAX": str(4 * 512 * 1024),
        "GRACE_SECONDS": "1",
    }
    return {f"HEADRACE_GATEWAY_{name}": value for name, value in settings.items()}


async def _answers(http: httpx2.AsyncClient, url: str) -> None:
    async def ready() -> bool:
        try:
            return (await http.get(url)).status_code == 200
        except httpx2.TransportError:
            return False

    await until(ready)
