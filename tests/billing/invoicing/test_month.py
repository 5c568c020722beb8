"""Closing a month's account: minimum charges and begun packages are charged once, and stay right afterwards."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from headrace_billing.invoicing.month import close_months, last_hour
from headrace_billing.ledger.transaction import AccountKind
from headrace_contracts.usage import Disposition, ServiceTier, TokenCounts
from tests.billing.ingest.usage import Gateway
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import MODEL, PRICES

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MILLION = 1_000_000
OUTPUT_WITH_MINIMUM = {"kind": "flat", "price": "90", "minimum_charge": "5.00"}
INPUT_BY_PACKAGES = {"kind": "package", "price": "3", "package_tokens": 100_000}


@pytest.fixture
async def minimum(shop: Shop) -> Shop:
    prices = {**PRICES, "output": OUTPUT_WITH_MINIMUM, "input_uncached": INPUT_BY_PACKAGES}
    published = await shop.seller.post("/v1/price-books", {"currency": "USD", "models": {MODEL: prices}})
    shop.gateway = Gateway(shop.customer, published["id"])
    return shop


async def sell(shop: Shop, **tokens: Any) -> None:
    await shop.sell(TokenCounts(**tokens))


async def test_nothing_is_added_while_the_month_is_open(minimum: Shop) -> None:
    await sell(minimum, output_visible=10_000, input_uncached=150_000)
    minimum.clock.passes(hours=1)
    invoice = await minimum.close()
    assert [line["amount"] for line in invoice["lines"]] == ["4.50", "0.90"]


async def test_the_close_that_reaches_the_months_end_adds_minimum_and_begun_package(minimum: Shop) -> None:
    await sell(minimum, output_visible=10_000, input_uncached=150_000)
    minimum.clock.now = DECEMBER
    invoice = await minimum.close(end=DECEMBER.isoformat())
    assert [line["amount"] for line in invoice["lines"]] == ["6.00", "5.00"]
    by_class = {line["token_class"]: line for line in invoice["lines"]}
    assert by_class["output"]["price"] == OUTPUT_WITH_MINIMUM
    assert (by_class["output"]["unit_price"], by_class["output"]["month"]) == (None, "2026-11")
    for kind in (AccountKind.UNBILLED, AccountKind.WALLET_APPLIED, AccountKind.RECEIVABLE):
        assert await minimum.nanos(kind) == 0
    assert await minimum.seller.balance(minimum.customer.wallet) == "489.00"


async def test_what_was_invoiced_before_the_month_ended_is_topped_up_without_a_token(minimum: Shop) -> None:
    await sell(minimum, output_visible=10_000)
    minimum.clock.passes(hours=1)
    await minimum.close()
    minimum.clock.now = DECEMBER
    invoice = await minimum.close(end=DECEMBER.isoformat())
    (line,) = invoice["lines"]
    assert (line["quantity"], line["amount"]) == (0, "4.10")


async def test_usage_that_comes_after_the_close_counts_towards_the_minimum(minimum: Shop) -> None:
    received = minimum.clock.now
    await sell(minimum, output_visible=10_000)
    minimum.clock.now = DECEMBER
    await minimum.close(end=DECEMBER.isoformat())
    await minimum.sell(TokenCounts(output_visible=20_000), at=received)
    assert await minimum.nanos(AccountKind.UNBILLED) == 0
    await minimum.sell(TokenCounts(output_visible=50_000), at=received)
    # 80,000 tokens cost 7.20, of which the minimum of 5.00 was invoiced.
    assert await minimum.nanos(AccountKind.UNBILLED) == 2_200_000_000
    minimum.clock.passes(hours=1)
    invoice = await minimum.close()
    (line,) = invoice["lines"]
    assert (line["kind"], line["quantity"], line["amount"]) == ("adjustment", 70_000, "2.20")


async def test_closing_a_month_twice_at_once_and_again_adds_it_once(minimum: Shop) -> None:
    await sell(minimum, output_visible=10_000)

    async def close() -> None:
        await close_months(
            minimum.database, organization=minimum.customer.org, currency="USD", before=DECEMBER, now=DECEMBER
        )

    await asyncio.gather(close(), close())
    await close()
    assert await minimum.nanos(AccountKind.UNBILLED) == 5_000_000_000


async def test_rollups_show_what_closing_added_apart_from_every_key(minimum: Shop) -> None:
    await sell(minimum, output_visible=10_000)
    minimum.clock.now = DECEMBER
    await minimum.close(end=DECEMBER.isoformat())
    async with minimum.database.begin() as session:
        rows = await session.execute(
            text("SELECT hour, key, charge_nanos, requests FROM usage_rollups ORDER BY hour")
        )
        assert [tuple(row) for row in rows][1] == (
            last_hour(DECEMBER.date().replace(month=11)),
            "",
            4_100_000_000,
            0,
        )


async def test_a_month_paid_afterwards_is_closed_as_well(minimum: Shop) -> None:
    customer = await minimum.seller.customer(credit=None, disposition="payg")
    minimum.customer = minimum.gateway.customer = customer
    await minimum.sell(TokenCounts(output_visible=10_000), disposition=Disposition.PAYG)
    minimum.clock.now = DECEMBER
    invoice = await minimum.close(end=DECEMBER.isoformat())
    assert invoice["amount_due"] == "5.00"


async def test_a_volume_price_reached_later_is_given_back_on_the_next_invoice(shop: Shop) -> None:
    tiers = [{"up_to": MILLION, "price": "90"}, {"price": "60"}]
    prices = {**PRICES, "output": {"kind": "volume", "tiers": tiers}}
    published = await shop.seller.post("/v1/price-books", {"currency": "USD", "models": {MODEL: prices}})
    shop.gateway = Gateway(shop.customer, published["id"])
    await sell(shop, output_visible=MILLION)
    shop.clock.passes(hours=1)
    assert (await shop.close())["total"] == "90.00"
    await sell(shop, output_visible=MILLION)
    shop.clock.passes(hours=1)
    assert (await shop.close())["total"] == "30.00"
    assert await shop.seller.balance(shop.customer.wallet) == "380.00"


async def test_lines_of_a_window_and_of_batch_stand_apart_and_print(shop: Shop) -> None:
    prices = {**PRICES, "windows": {"peak": "2"}, "batch": "0.5"}
    peak = {"weekdays": [0], "begins_minute": 780, "ends_minute": 840}
    published = await shop.seller.post(
        "/v1/price-books", {"currency": "USD", "models": {MODEL: prices}, "windows": {"peak": peak}}
    )
    shop.gateway = Gateway(shop.customer, published["id"])
    await sell(shop, output_visible=100_000)
    await shop.sell(TokenCounts(output_visible=100_000), service_tier=ServiceTier.BATCH)
    shop.clock.passes(hours=1)
    await sell(shop, output_visible=100_000)
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    assert [(line["description"], line["unit_price"], line["amount"]) for line in invoice["lines"]] == [
        ("glm-tiny, output tokens", "90", "9.00"),
        ("glm-tiny, output tokens, batch", "45", "4.50"),
        ("glm-tiny, output tokens, peak", "180", "18.00"),
    ]
    answer = await shop.seller.ask("GET", f"/v1/invoices/{invoice['id']}.pdf")
    assert answer.content.startswith(b"%PDF")


async def test_a_preview_of_a_whole_month_counts_what_its_close_adds(minimum: Shop) -> None:
    await sell(minimum, output_visible=10_000, input_uncached=150_000)
    minimum.clock.now = DECEMBER
    await minimum.close(end=DECEMBER.isoformat())
    prices = {**PRICES, "output": OUTPUT_WITH_MINIMUM, "input_uncached": INPUT_BY_PACKAGES}
    found = await minimum.seller.post(
        "/v1/price-previews",
        {
            "currency": "USD",
            "models": {MODEL: prices},
            "start": "2026-11-01T00:00:00Z",
            "end": DECEMBER.isoformat(),
        },
    )
    assert (found["billed"], found["would_bill"], found["difference"]) == ("11.00", "11.00", "0.00")
