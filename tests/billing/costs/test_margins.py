"""Margins are revenue as posted less cost by the version that held, and say which that was."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace_billing.database import Database
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.ingest.usage import RECEIVED, Gateway, take
from tests.billing.seller import MODEL, PRICES, Document, Seller

HOUR = RECEIVED.replace(minute=0, second=0, microsecond=0)
COSTS = {"input_uncached": "10", "cache_read": "1", "cache_write": "10", "output": "40"}
MILLION = 1_000_000


async def publish_costs(seller: Seller, effective_at: datetime = HOUR, **costs: str) -> str:
    body = {
        "currency": "USD",
        "effective_at": effective_at.isoformat(),
        "models": {MODEL: {**COSTS, **costs}},
    }
    return str((await seller.post("/v1/cost-books", body))["id"])


async def margins(seller: Seller, by: str = "model", **fields: Any) -> Document:
    span = {"start": f"{HOUR:%Y-%m-%dT%H:%M:%SZ}", "end": f"{HOUR + timedelta(hours=5):%Y-%m-%dT%H:%M:%SZ}"}
    query = "&".join(f"{name}={value}" for name, value in {**span, **fields}.items())
    return await seller.get(f"/v1/margins?currency=USD&by={by}&{query}")


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    models = {MODEL: PRICES, "glm-other": PRICES}
    published = await seller.post("/v1/price-books", {"currency": "USD", "models": models})
    return Gateway(await seller.customer(credit=None, disposition="payg"), published["id"])


async def use(database: Database, gateway: Gateway, **fields: Any) -> None:
    values = {"tokens": TokenCounts(output_visible=MILLION), "disposition": Disposition.PAYG, **fields}
    await take(database, gateway.event(**values))


async def test_a_margin_is_revenue_less_cost_and_names_its_method(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    book = await publish_costs(seller)
    await use(database, gateway)
    found = await margins(seller)
    assert (found["method"], found["cost_books"]) == ("per_token", [book])
    assert found["margins"] == [
        {
            "model": MODEL,
            "requests": 1,
            "tokens": MILLION,
            "revenue": "90.00",
            "list_price": "90.00",
            "cost": "40.00",
            "margin": "50.00",
            "tokens_without_cost": 0,
        }
    ]


async def test_usage_that_earned_nothing_still_costs(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await publish_costs(seller)
    await use(database, gateway, disposition=Disposition.FREE)
    (margin,) = (await margins(seller, by="organization"))["margins"]
    assert (margin["organization"], margin["margin"]) == (gateway.customer.org, "-40.00")
    assert margin["list_price"] == "90.00"


async def test_each_hour_costs_what_was_effective_then(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    books = [await publish_costs(seller), await publish_costs(seller, HOUR + timedelta(hours=1), output="50")]
    await use(database, gateway)
    await use(database, gateway, received_at=HOUR + timedelta(hours=1))
    found = await margins(seller)
    assert (found["margins"][0]["cost"], found["cost_books"]) == ("90.00", books)


async def test_a_cost_that_is_known_later_tells_the_past_anew(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await publish_costs(seller)
    await use(database, gateway)
    later = await publish_costs(seller, output="45")
    found = await margins(seller)
    assert (found["margins"][0]["cost"], found["cost_books"]) == ("45.00", [later])


async def test_tokens_without_a_cost_are_counted_and_those_with_the_least_margin_come_first(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await publish_costs(seller)
    await use(database, gateway)
    await use(database, gateway, model_served="glm-other")
    found = (await margins(seller))["margins"]
    assert [(one["model"], one["margin"], one["tokens_without_cost"]) for one in found] == [
        (MODEL, "50.00", 0),
        ("glm-other", "90.00", MILLION),
    ]


async def test_a_published_cost_stays(seller: Seller, database: Database) -> None:
    await publish_costs(seller)
    listed = await seller.get("/v1/cost-books?currency=USD")
    assert listed["items"][0]["models"] == {MODEL: COSTS}
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.begin() as session:
            await session.execute(text("UPDATE cost_book_costs SET output = 0"))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"effective_at": "2026-11-23T12:30:00Z"}, (422, "cost_book_invalid")),
        ({"models": {MODEL: {**COSTS, "output": "-1"}}}, (422, "price_invalid")),
        ({"currency": "XXQ"}, (422, "currency_unknown")),
    ],
)
async def test_a_cost_book_that_can_not_be_is_refused(
    seller: Seller, change: Document, refusal: tuple[int, str]
) -> None:
    body = {"currency": "USD", "effective_at": HOUR.isoformat(), "models": {MODEL: COSTS}, **change}
    assert await seller.refused("/v1/cost-books", body) == refusal
    assert (await seller.get("/v1/cost-books"))["items"] == []


async def test_no_customer_sees_what_its_tokens_cost(seller: Seller, gateway: Gateway) -> None:
    buyer = Seller(seller.http, gateway.customer.secret)
    answer = await buyer.ask("GET", "/v1/cost-books")
    assert answer.status_code == 403
