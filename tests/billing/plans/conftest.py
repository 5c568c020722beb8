"""A shop that sells plans, on a clock that tests move."""

import pytest
from redis.asyncio import Redis

from tests.billing.invoicing.conftest import clock, parts, shop
from tests.billing.invoicing.shop import Shop
from tests.billing.plans.subscriber import Subscriber

__all__ = ["clock", "parts", "shop"]


@pytest.fixture
async def subscriber(shop: Shop, valkey: Redis) -> Subscriber:
    found = Subscriber(shop, valkey)
    await found.publish("lite", "18.00")
    await found.publish("pro", "72.00")
    return found
