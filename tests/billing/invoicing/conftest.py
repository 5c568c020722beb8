"""The API on a clock that tests move, with a shop that has sold something."""

from dataclasses import replace

import pytest

from headrace_billing.database import Database
from headrace_billing.parts import Parts
from tests.billing.clock import Clock
from tests.billing.ingest.usage import Gateway
from tests.billing.invoicing.shop import Shop
from tests.billing.outcomes.market import OUTCOME_TYPE
from tests.billing.seller import Seller


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock)


@pytest.fixture
async def shop(seller: Seller, database: Database, parts: Parts, clock: Clock) -> Shop:
    price_book = await seller.publish_prices()
    await seller.post("/v1/outcome-types", OUTCOME_TYPE)
    customer = await seller.customer(credit="500.00")
    return Shop(
        seller=seller,
        customer=customer,
        buyer=Seller(seller.http, customer.secret),
        gateway=Gateway(customer, price_book),
        database=database,
        parts=parts,
        clock=clock,
    )
