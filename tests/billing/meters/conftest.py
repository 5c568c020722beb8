"""A customer, prices that have held for long, and a meter that may report what the customer uses."""

from dataclasses import replace
from datetime import timedelta

import pytest

from headrace_billing.parts import Parts
from tests.billing.clock import Clock
from tests.billing.meters.reporter import Reporter
from tests.billing.seller import NOW, Seller


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW - timedelta(days=500))


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock)


@pytest.fixture
async def price_book(seller: Seller, clock: Clock) -> str:
    book = await seller.publish_prices()
    clock.now = NOW
    return book


@pytest.fixture
async def reporter(seller: Seller, price_book: str) -> Reporter:
    meter = await seller.post("/v1/meters", {"name": "rack 1"})
    return Reporter(seller.http, meter["id"], meter["token"], await seller.customer())
