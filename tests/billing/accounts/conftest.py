"""A customer of a gateway that admits by what billing writes, and of an engine that answers."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis

from headrace_gateway.metering.settings import MeterSettings
from tests.billing.seller import INGEST_TOKEN, PRICES, Customer, Seller
from tests.gateway.account import MODEL, Account
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS
from tests.gateway.http.stack import Stack, running_stack


@pytest.fixture
async def customer(seller: Seller) -> Customer:
    await seller.post("/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES}})
    return await seller.customer(credit=None, disposition="payg")


@pytest.fixture
async def stack(
    customer: Customer, valkey_url: str, tmp_path: Path, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    settings = MeterSettings(
        name="gateway",
        state_dir=tmp_path,
        valkey_url=valkey_url,
        billing_url="http://127.0.0.1:9",  # discard: events are taken from the stream
        ingest_token=INGEST_TOKEN,
        segment_bytes=512 * 1024,
        journal_bytes_max=4 * 512 * 1024,
        heartbeat_seconds=0.1,
        inflight_slots=64,
        valkey_timeout_seconds=VALKEY_TIMEOUT_SECONDS,
        settle_wait_seconds=VALKEY_TIMEOUT_SECONDS,
    )
    with redis.Redis.from_url(valkey_url) as client:
        account = Account(client, secret=customer.secret)
        account.warm()
        async with running_stack(account, settings, unused_port()) as running:
            yield running
