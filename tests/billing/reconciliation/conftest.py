"""The API on a clock that tests move, and a gateway whose customer has credit."""

from dataclasses import replace

import pytest

from headrace_billing.parts import Parts
from tests.billing.clock import Clock
from tests.billing.ingest.usage import RECEIVED, Gateway
from tests.billing.seller import Seller


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock)


@pytest.fixture
async def gateway(seller: Seller, clock: Clock) -> Gateway:
    """Its customer came to be before any usage; now it is long after that."""
    price_book = await seller.publish_prices()
    customer = await seller.customer()
    clock.now = RECEIVED
    clock.passes(hours=3)
    return Gateway(customer, price_book)
