"""The API on a clock that tests move, with a customer, a price and an outcome type."""

from dataclasses import replace
from typing import Any

import pytest

from headrace_billing.database import Database
from headrace_billing.parts import Parts
from tests.billing.clock import Clock
from tests.billing.ingest.usage import Gateway
from tests.billing.outcomes.market import OUTCOME_TYPE, Market
from tests.billing.seller import Seller


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock)


@pytest.fixture
def outcome_type() -> dict[str, Any]:
    return dict(OUTCOME_TYPE)


@pytest.fixture
async def market(
    seller: Seller, database: Database, parts: Parts, clock: Clock, outcome_type: dict[str, Any]
) -> Market:
    price_book = await seller.publish_prices()
    customer = await seller.customer()
    await seller.post("/v1/outcome-types", outcome_type)
    return Market(
        seller=seller,
        customer=customer,
        buyer=Seller(seller.http, customer.secret),
        gateway=Gateway(customer, price_book),
        database=database,
        parts=parts,
        clock=clock,
    )
