"""Publishing prices: what gateways admit by from then on, and what nobody can change afterwards."""

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace_billing.database import Database
from headrace_contracts import channels
from headrace_contracts.access import ModelPrice, decode_prices
from tests.billing.seller import MODEL, PRICES, Seller


async def test_a_published_price_book_is_in_force_at_once(seller: Seller, valkey: Redis) -> None:
    await seller.publish_prices()
    book = await seller.publish_prices({**PRICES, "output": "91.50"})
    raw = await valkey.hget(channels.prices("USD"), "r")
    assert isinstance(raw, bytes)
    card = decode_prices(raw)
    assert (card.price_book, card.currency) == (book, "USD")
    assert card.models[MODEL] == ModelPrice(
        input_uncached="30", cache_read="6", cache_write="30", output="91.5"
    )


async def test_gateways_are_told_what_a_batch_costs_where_it_has_a_price_of_its_own(
    seller: Seller, valkey: Redis
) -> None:
    windows = {"peak": {"weekdays": [0], "begins_minute": 0, "ends_minute": 60}}
    await seller.post(
        "/v1/price-books",
        {
            "currency": "USD",
            "windows": windows,
            "models": {
                MODEL: {**PRICES, "batch": "0.5", "windows": {"peak": "3"}},
                "glm-dear": {**PRICES, "batch": "2"},
                "glm-plain": PRICES,
            },
        },
    )
    raw = await valkey.hget(channels.prices("USD"), "r")
    assert isinstance(raw, bytes)
    card = decode_prices(raw)
    outputs = {model: (price.output, card.batch_models.get(model)) for model, price in card.models.items()}
    assert {model: (price, batch and batch.output) for model, (price, batch) in outputs.items()} == {
        MODEL: ("270", "135"),
        # Whoever knows nothing of batches holds enough for them.
        "glm-dear": ("180", "180"),
        "glm-plain": ("90", None),
    }


async def test_every_version_stays_readable(seller: Seller) -> None:
    first, second = await seller.publish_prices(), await seller.publish_prices()
    listed = await seller.get("/v1/price-books?currency=USD")
    assert [(book["id"], book["version"]) for book in listed["items"]] == [(first, 1), (second, 2)]
    assert listed["items"][0]["models"] == {MODEL: PRICES}


@pytest.mark.parametrize("table", ["price_books", "price_book_prices"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_the_database_itself_refuses_to_change_a_published_price(
    seller: Seller, database: Database, table: str, statement: str
) -> None:
    await seller.publish_prices()
    sql = statement.format(table).replace(
        "id = 'x'", "model = 'x'" if table == "price_book_prices" else "id = 'x'"
    )
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.begin() as session:
            await session.execute(text(sql))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"models": {}}, (422, "price_invalid")),
        ({"models": {MODEL: {**PRICES, "output": "-1"}}}, (422, "price_invalid")),
        ({"models": {MODEL: {**PRICES, "output": "0.0000000000001"}}}, (422, "price_invalid")),
        ({"models": {MODEL: {**PRICES, "output": 90}}}, (400, "invalid_request")),
        ({"models": {MODEL: {"output": "90"}}}, (400, "invalid_request")),
        ({"models": {"": PRICES}}, (400, "invalid_request")),
        ({"currency": "XXQ"}, (422, "currency_unknown")),
    ],
)
async def test_prices_that_can_not_be_are_a_problem_and_publish_nothing(
    seller: Seller, valkey: Redis, change: dict[str, object], refusal: tuple[int, str]
) -> None:
    body = {"currency": "USD", "models": {MODEL: PRICES}, **change}
    assert await seller.refused("/v1/price-books", body) == refusal
    assert (await seller.get("/v1/price-books"))["items"] == []
    assert not await valkey.exists(channels.prices("USD"))


async def test_publishing_again_with_the_same_idempotency_key_makes_no_second_version(seller: Seller) -> None:
    body = {"currency": "USD", "models": {MODEL: PRICES}}
    answers = [
        await seller.ask("POST", "/v1/price-books", body, **{"idempotency-key": "one"}) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert len((await seller.get("/v1/price-books"))["items"]) == 1
