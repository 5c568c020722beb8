"""A receiver, a courier that reaches it, and a clock that both of them go by."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from ipaddress import ip_network

import pytest

from headrace_billing.database import Database
from headrace_billing.parts import Parts
from headrace_billing.webhooks.jobs import Courier
from headrace_billing.webhooks.sending import Sender
from tests.billing.clock import Clock
from tests.billing.seller import Customer, Document, Seller
from tests.billing.webhooks.receiver import Receiver, receiving

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Moved":
            return cls.fromtimestamp(clock.now.timestamp(), tz)

    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Moved)
    return clock


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock, webhook_networks=LOOPBACK)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def customer(seller: Seller) -> Customer:
    return await seller.customer()


@pytest.fixture
async def endpoint(seller: Seller, customer: Customer, receiver: Receiver) -> Document:
    return await seller.post("/v1/webhook-endpoints", {"organization": customer.org, "url": receiver.url})


@dataclass(slots=True)
class Post:
    """Delivers what is due, until nothing is."""

    courier: Courier
    clock: Clock

    async def round(self) -> None:
        while await self.courier.step():
            pass

    async def after(self, **time: int) -> None:
        self.clock.passes(**time)
        await self.round()


@pytest.fixture
async def post(database: Database, parts: Parts, clock: Clock) -> AsyncIterator[Post]:
    async with posting(database, parts, clock, total_seconds=20) as patient:
        yield patient


@pytest.fixture
async def hasty(database: Database, parts: Parts, clock: Clock) -> AsyncIterator[Post]:
    """One that waits for no receiver for long."""
    async with posting(database, parts, clock, total_seconds=0.4) as opened:
        yield opened


@asynccontextmanager
async def posting(
    database: Database, parts: Parts, clock: Clock, *, total_seconds: float
) -> AsyncIterator[Post]:
    sender = Sender(allowed=LOOPBACK, total_seconds=total_seconds)
    courier = Courier(database, sender, signing_key=parts.signing_key, now=clock)
    yield Post(courier, clock)
    await courier.close()
