"""The quick look at many customers: whom it passes, a report of their own would find green."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.reconciliation.many import plainly_green, suspects
from headrace_billing.reconciliation.report import Scope
from headrace_contracts.usage import Disposition
from tests.billing.ingest.usage import RECEIVED, Gateway, take
from tests.billing.reconciliation.engine import record, tell, yielded
from tests.billing.seller import Seller

START, END = datetime(2026, 11, 1, tzinfo=UTC), RECEIVED + timedelta(hours=2)


async def passed(database: Database, *gateways: Gateway) -> list[bool]:
    async with database.snapshot() as session:
        seen = await suspects(session, start=START, end=END)
        green = await plainly_green(session, [Scope(one.customer.org, START, END) for one in gateways], seen)
    return [one.customer.org in green for one in gateways]


@pytest.fixture
async def other(seller: Seller, gateway: Gateway, database: Database) -> Gateway:
    """A customer with whom all is plain, and so has the first one."""
    other = Gateway(await seller.customer(), gateway.price_book, boot="boot-2")
    for one in (gateway, other):
        events = [
            one.event(),
            one.event(disposition=Disposition.PAYG, deployment="dep-2" if one is other else "dep-1"),
        ]
        await take(database, *events)
        await tell(database, *(yielded(event) for event in events))
    return other


async def test_whoever_is_plain_passes_and_so_does_whoever_used_nothing(
    seller: Seller, gateway: Gateway, other: Gateway, database: Database
) -> None:
    nobody = Gateway(await seller.customer(), gateway.price_book)
    assert await passed(database, gateway, other, nobody) == [True, True, True]


async def test_a_request_that_differs_keeps_its_customer_back_and_nobody_else(
    gateway: Gateway, other: Gateway, database: Database
) -> None:
    bad = gateway.event()
    await take(database, bad)
    assert await passed(database, gateway, other) == [False, True]
    await tell(database, yielded(bad, more_output=1))
    assert await passed(database, gateway, other) == [False, True]


async def test_a_request_to_an_engine_that_tells_nothing_keeps_nobody_back(
    gateway: Gateway, other: Gateway, database: Database
) -> None:
    await take(database, gateway.event(witnessed=False))
    assert await passed(database, gateway, other) == [True, True]


async def test_a_lost_request_keeps_back_whoever_used_its_deployment(
    gateway: Gateway, other: Gateway, database: Database
) -> None:
    await tell(database, record("0190f000-0000-7000-8000-000000000001.1", deployment="dep-2"))
    assert await passed(database, gateway, other) == [True, False]


async def test_an_event_that_came_twice_otherwise_or_was_refused_keeps_its_customer_back(
    gateway: Gateway, other: Gateway, database: Database
) -> None:
    event = gateway.event()
    await take(
        database, event, gateway.event(request=event.id, sequence=event.sequence, model_requested="another")
    )
    await tell(database, yielded(event))
    assert await passed(database, gateway, other) == [False, True]
    await take(database, other.event(price_book="pb_none"))
    assert await passed(database, gateway, other) == [False, False]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE usage_rollups SET requests = requests + 1 WHERE org = :org",
        "UPDATE usage_rollups SET charge_nanos = charge_nanos + 1 WHERE org = :org",
        "UPDATE usage_rollups_by_day SET charge_nanos = charge_nanos - 1 WHERE org = :org",
        "UPDATE rated_usage SET quantity = quantity + 1 WHERE org = :org AND token_class = 'output'",
        "UPDATE rated_usage SET charge_nanos = charge_nanos + 1 WHERE org = :org",
        "UPDATE ledger_balances SET amount_nanos = amount_nanos + 1 WHERE owner = :org AND kind = 'unbilled'",
    ],
)
async def test_books_that_differ_by_one_keep_their_customer_back(
    gateway: Gateway, other: Gateway, database: Database, damage: str
) -> None:
    async with database.begin() as session:
        await session.execute(text(damage), {"org": gateway.customer.org})
    # A quantity alone moves no money; it is what invoices are drawn up from that has to show it.
    expected = "quantity" in damage
    assert await passed(database, gateway, other) == [expected, True]
