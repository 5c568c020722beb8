"""A preview says what rating would have billed, to the nano-unit, and changes nothing."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from headrace_billing.database import Database
from headrace_billing.rating.preview_store import whole_months
from headrace_contracts.usage import Disposition, ServiceTier, TokenCounts
from tests.billing.ingest.usage import Gateway, books, take
from tests.billing.seller import MODEL, PRICES, Customer, Document, Seller

START = datetime(2026, 11, 23, tzinfo=UTC)
WHEN = {"start": START.isoformat(), "end": (START + timedelta(hours=12)).isoformat()}
PEAK = {"weekdays": [0, 1, 2, 3, 4], "begins_minute": 540, "ends_minute": 600, "utc_offset_minutes": 480}
OTHER: Document = {
    "input_uncached": {
        "kind": "graduated",
        "tiers": [{"up_to": 40_000, "price": "21.000001"}, {"price": "7"}],
    },
    "cache_read": {"kind": "flat", "price": "1", "maximum_charge": "0.01"},
    "cache_write": "30",
    "output": {"kind": "volume", "tiers": [{"up_to": 20_000, "price": "80"}, {"price": "50.5"}]},
    "windows": {"peak": "2"},
    "batch": "0.5",
}


async def use(database: Database, customer: Customer, price_book: str) -> None:
    """The same requests whoever pays: in and out of the window, batch and not."""
    gateway = Gateway(customer, price_book)
    events = [
        gateway.event(
            tokens=TokenCounts(input_uncached=7_001 * n, cache_read=9_003, output_visible=3_007, reasoning=n),
            received_at=START + timedelta(minutes=40 * n),
            service_tier=ServiceTier.BATCH if n % 3 == 0 else ServiceTier.STANDARD,
            disposition=Disposition.PAYG,
        )
        for n in range(1, 11)
    ]
    await take(database, *events)


async def paying(seller: Seller) -> Customer:
    return await seller.customer(credit=None, disposition="payg")


async def preview(seller: Seller, models: Document, **fields: Any) -> Document:
    return await seller.post("/v1/price-previews", {"currency": "USD", "models": models, **WHEN, **fields})


async def test_a_preview_is_what_the_prices_bill_once_they_are_in_force(
    seller: Seller, database: Database
) -> None:
    first, second = await paying(seller), await paying(seller)
    await use(database, first, await seller.publish_prices())
    change = {"models": {MODEL: OTHER}, "windows": {"peak": PEAK}}
    foreseen = await preview(seller, **change)
    published = await seller.post("/v1/price-books", {"currency": "USD", **change})
    await use(database, second, published["id"])
    seen = await preview(seller, **change)
    by_customer = {one["organization"]: one for one in seen["customers"]}
    assert (
        by_customer[second.org]["billed"] == foreseen["would_bill"] == foreseen["customers"][0]["would_bill"]
    )
    assert by_customer[second.org]["difference"] == "0.00"


async def test_a_preview_of_the_prices_in_force_differs_in_nothing(
    seller: Seller, database: Database
) -> None:
    await use(database, await paying(seller), await seller.publish_prices())
    same = await preview(seller, {MODEL: PRICES})
    assert same["difference"] == "0.00"
    assert same["billed"] == same["would_bill"] != "0.00"


async def test_a_preview_posts_and_publishes_nothing(seller: Seller, database: Database) -> None:
    await use(database, await paying(seller), await seller.publish_prices())
    async with database.begin() as session:
        before = await books(session)
    await preview(seller, {MODEL: OTHER}, windows={"peak": PEAK})
    async with database.begin() as session:
        assert await books(session) == before
    assert len((await seller.get("/v1/price-books"))["items"]) == 1


async def test_an_organizations_own_prices_are_previewed_for_it_alone(
    seller: Seller, database: Database
) -> None:
    customer, other = await paying(seller), await paying(seller)
    price_book = await seller.publish_prices()
    for one in (customer, other):
        await use(database, one, price_book)
    own = await preview(seller, {}, organization=customer.org, inherited_times="0.5")
    assert [one["organization"] for one in own["customers"]] == [customer.org]
    assert own["difference"].startswith("-")
    await seller.post(
        "/v1/price-books",
        {"currency": "USD", "organization": customer.org, "models": {}, "inherited_times": "0.5"},
    )
    # Whoever has prices of its own keeps its share of the new ones.
    doubled = {kind: str(2 * int(price)) for kind, price in PRICES.items()}
    found = {
        one["organization"]: one["difference"]
        for one in (await preview(seller, {MODEL: doubled}))["customers"]
    }
    assert found[customer.org] == "0.00"
    assert found[other.org] != "0.00"


async def test_a_model_without_a_price_in_the_list_is_named(seller: Seller, database: Database) -> None:
    await use(database, await paying(seller), await seller.publish_prices())
    found = await preview(seller, {"glm-other": PRICES})
    assert found["not_priced"] == [MODEL]
    assert found["would_bill"] == "0.00"


@pytest.mark.parametrize(
    "change",
    [
        {"start": "2026-11-23T00:30:00Z"},
        {"end": "2026-11-23T00:00:00Z"},
        {"start": "2024-11-23T00:00:00Z"},
    ],
)
async def test_a_time_that_quantities_are_not_kept_for_is_refused(seller: Seller, change: Document) -> None:
    body = {"currency": "USD", "models": {MODEL: PRICES}, **WHEN, **change}
    assert await seller.refused("/v1/price-previews", body) == (422, "interval_invalid")


def test_only_months_within_the_time_as_a_whole_are_closed() -> None:
    at = datetime(2026, 10, 1, tzinfo=UTC)
    assert whole_months(at, datetime(2026, 12, 1, tzinfo=UTC)) == {date(2026, 10, 1), date(2026, 11, 1)}
    assert whole_months(at + timedelta(hours=1), datetime(2026, 11, 30, 23, tzinfo=UTC)) == set()
    assert whole_months(at, at + timedelta(days=31)) == {date(2026, 10, 1)}
