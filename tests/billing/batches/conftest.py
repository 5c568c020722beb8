"""A customer with a key, at a desk that takes batches."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import openai
import pytest

from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.batches.jobs import Batches
from headrace_billing.database import Database
from headrace_billing.parts import Parts
from tests.billing.batches.desk import Desk
from tests.billing.batches.scripted_gateway import ScriptedGateway, scripted_gateway
from tests.billing.clock import Clock
from tests.billing.seller import INGEST_TOKEN, Seller

BOUNDS = BatchBounds(file_bytes_max=3 * 2**20, project_bytes_max=5 * 2**20, lines_max=120)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock, batches=BOUNDS)


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as running:
        yield running


@pytest.fixture
async def desk(
    seller: Seller, http: httpx2.AsyncClient, gateway: ScriptedGateway, database: Database, clock: Clock
) -> AsyncIterator[Desk]:
    customer = await seller.customer()
    client = openai.AsyncOpenAI(
        base_url="http://billing/v1", api_key=customer.secret, max_retries=0, http_client=http
    )
    batches = Batches.through(
        gateway.url, INGEST_TOKEN, database=database, at_once_max=3, bounds=BOUNDS, now=clock
    )
    yield Desk(seller, customer, client, gateway, batches, database, clock)
    await batches.close()
