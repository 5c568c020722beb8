"""From a request's id to all that came of it, for those whom it concerns."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from headrace_billing.app import compose
from headrace_billing.database import Database
from headrace_billing.parts import Parts
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Seller


@pytest.fixture
async def seller(parts: Parts) -> AsyncIterator[Seller]:
    # An invoice counts what was stored before it, and the database's clock can't be set.
    transport = httpx2.ASGITransport(app=compose(replace(parts, now=lambda: datetime.now(UTC))))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as client:
        yield Seller(client)


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    published = await seller.publish_prices()
    return Gateway(await seller.customer(credit=None, disposition="payg"), published)


async def test_a_request_leads_to_its_trace_its_events_its_price_and_its_ledger_entries(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    event = gateway.event(
        tokens=TokenCounts(input_uncached=1_000_000, output_visible=500_000),
        disposition=Disposition.PAYG,
        session="ses_1",
        end_user="8f14e45fceea167a5a36dedd4bea2543",
        trace="0af7651916cd43dd8448eb211c80319c",
    )
    estimate = gateway.estimate(event.id, disposition=Disposition.PAYG)
    await take(database, estimate)
    await take(database, event)

    found = await seller.get(f"/v1/requests/{event.id}")

    assert found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert (found["session"], found["end_user"]) == ("ses_1", "8f14e45fceea167a5a36dedd4bea2543")
    assert [each["grade"] for each in found["events"]] == ["estimated", "final"]
    assert found["grade"] == "final"
    assert found["list_price"] == "75.00"
    assert [(each["token_class"], each["quantity"], each["price"]) for each in found["prices"]] == [
        ("input_uncached", 1_000_000, "30"),
        ("output", 500_000, "90"),
    ]
    assert [each["grade"] for each in found["ledger"]] == ["estimated", "final"]
    assert found["duration_seconds"] == 1.5
    assert found["invoice_lines"] == []


async def test_a_trace_that_began_with_the_request_has_its_id(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    event = gateway.event(disposition=Disposition.PAYG)
    await take(database, event)
    assert (await seller.get(f"/v1/requests/{event.id}"))["trace_id"] == event.id.replace("-", "")


async def test_an_invoiced_request_leads_to_the_lines_that_count_it(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    now = datetime.now(UTC)
    start = (now - timedelta(days=1)).isoformat()
    event = gateway.event(
        tokens=TokenCounts(input_uncached=10_000, output_visible=20_000),
        received_at=now - timedelta(hours=1),
        disposition=Disposition.PAYG,
    )
    await take(database, event)
    await tell(database, yielded(event))
    invoice = await seller.post("/v1/periods/close", {"organization": gateway.customer.org, "start": start})

    lines = (await seller.get(f"/v1/requests/{event.id}"))["invoice_lines"]

    assert {line["number"] for line in lines} == {invoice["number"]}
    assert [(line["token_class"], line["quantity"]) for line in lines] == [
        ("input_uncached", 10_000),
        ("output", 20_000),
    ]

    late = gateway.event(received_at=now - timedelta(hours=2), disposition=Disposition.PAYG)
    await take(database, late)
    assert (await seller.get(f"/v1/requests/{late.id}"))["invoice_lines"] == [], "no invoice has it yet"


async def test_a_request_is_shown_to_the_project_that_made_it_and_to_no_other(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    event = gateway.event(disposition=Disposition.PAYG)
    await take(database, event)
    mine = replace(seller, token=gateway.customer.secret)
    another = replace(seller, token=(await seller.customer()).secret)

    assert (await mine.get(f"/v1/requests/{event.id}"))["id"] == event.id
    assert await another.refused(f"/v1/requests/{event.id}", None, method="GET") == (404, "not_found")
    assert await mine.refused(f"/v1/requests/{gateway.customer.org}", None, method="GET") == (
        400,
        "invalid_request",
    )


async def test_a_key_without_the_scope_learns_nothing_of_requests(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    event = gateway.event(disposition=Disposition.PAYG)
    await take(database, event)
    key = await seller.post(
        "/v1/keys", {"project": gateway.customer.project, "name": "second", "scopes": ["inference"]}
    )
    narrow = replace(seller, token=key["secret"])
    assert await narrow.refused(f"/v1/requests/{event.id}", None, method="GET") == (403, "scope_missing")
