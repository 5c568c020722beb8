"""A Stripe: the stand-in over real HTTP or, with `STRIPE_API_KEY` of a test account, the real one.

What only a person before Stripe's page, a bank or the passing of days can do is asked of `fake`, and skipped there.
"""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.parts import Parts
from headrace_billing.payments.access import StripeAccess
from headrace_billing.payments.collecting import dun
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.till import Till
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.clock import Clock
from tests.billing.ingest.usage import Gateway, take
from tests.billing.payments.counter import Counter
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import NOW, Customer, Document, Seller
from tests.billing.webhooks.examples import not_as_documented
from tests.support.stripe.account import Account
from tests.support.stripe.server import API_KEY, WEBHOOK_SECRET, FakeStripe, running_stripe

REAL_KEY = os.environ.get("STRIPE_API_KEY", "")
RETURN_URL = "https://console.example.com/billing"


@pytest.fixture(autouse=True)
async def what_is_told_is_as_documented(database: Database) -> AsyncIterator[None]:
    """Whatever a test does, its notices reach webhooks in the shape that the reference shows."""
    yield
    assert await not_as_documented(database) == []


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC)) if REAL_KEY else Clock(NOW)


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[FakeStripe | None]:
    if REAL_KEY:
        yield None
        return
    with running_stripe(Account(now=clock)) as fake:
        yield fake


@pytest.fixture
def fake(stand_in: FakeStripe | None) -> FakeStripe:
    if stand_in is None:
        pytest.skip("needs a customer before Stripe's page, a bank, or days to pass")
    return stand_in


@pytest.fixture
def stripe(stand_in: FakeStripe | None) -> Iterator[Stripe]:
    assert not REAL_KEY or "_test_" in REAL_KEY, "STRIPE_API_KEY must be a test account's"
    connected = Stripe(
        StripeAccess(
            api_key=REAL_KEY or API_KEY,
            webhook_secrets=("whsec_of_yesterday", WEBHOOK_SECRET),
            api_url="https://api.stripe.com" if stand_in is None else stand_in.url,
            return_url=RETURN_URL,
        )
    )
    yield connected
    connected.close()


@pytest.fixture
def parts(database: Database, valkey: Redis, stripe: Stripe, clock: Clock, parts: Parts) -> Parts:
    return replace(parts, stripe=stripe, now=clock)


@pytest.fixture
def counter(seller: Seller, database: Database, valkey: Redis, stripe: Stripe, clock: Clock) -> Counter:
    return Counter(seller, Till(database, valkey, stripe), clock)


@pytest.fixture
async def customer(seller: Seller) -> Customer:
    """With an empty wallet."""
    return await seller.customer(credit=None)


@pytest.fixture
async def invoice(counter: Counter, database: Database, customer: Customer) -> Document:
    """Of nine dollars, issued at the hour after `NOW`."""
    gateway = Gateway(customer, await counter.seller.publish_prices())
    event = gateway.event(tokens=TokenCounts(output_visible=100_000), disposition=Disposition.PAYG)
    await take(database, event)
    await tell(database, yielded(event))
    counter.clock.passes(hours=1)
    closed = await counter.seller.post("/v1/periods/close", {"organization": customer.org})
    assert closed["amount_due"] == "9.00"
    await dun(counter.till, now=counter.clock())
    return closed
