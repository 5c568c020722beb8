"""Price books through the API: kinds, windows, batch, an organisation's own; each in force at its time and kept."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.rating.jobs import put_into_force
from headrace_billing.rating.store import price_books
from headrace_contracts import channels
from headrace_contracts.access import PriceCard, ProjectRecord, decode_prices, decode_project
from headrace_contracts.usage import Disposition, ServiceTier, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import MODEL, NOW, PRICES, Document, Seller

MILLION = 1_000_000
PEAK = {"weekdays": [0, 1, 2, 3, 4], "begins_minute": 840, "ends_minute": 1080, "utc_offset_minutes": 480}
AT_PEAK = datetime(2026, 11, 23, 7, tzinfo=UTC)
OFF_PEAK = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALL_KINDS: Document = {
    "input_uncached": {
        "kind": "graduated",
        "tiers": [{"up_to": MILLION, "price": "30"}, {"up_to": None, "price": "20"}],
    },
    "cache_read": "6",
    "cache_write": {"kind": "package", "price": "0.03", "package_tokens": 1000},
    "output": {
        "kind": "volume",
        "tiers": [{"up_to": MILLION, "price": "90"}, {"up_to": None, "price": "60"}],
        "maximum_charge": "5000.00",
    },
    "windows": {"peak": "1.5"},
    "batch": "0.5",
}


def book(models: Document, **fields: object) -> Document:
    return {"currency": "USD", "models": models, "windows": {"peak": PEAK}, **fields}


async def card(valkey: Redis, price_list: str = "USD") -> PriceCard:
    raw = await valkey.hget(channels.prices(price_list), "r")
    assert isinstance(raw, bytes)
    return decode_prices(raw)


async def project_record(valkey: Redis, project: str) -> ProjectRecord:
    raw = await valkey.hget(channels.project(project), "r")
    assert isinstance(raw, bytes)
    return decode_project(raw)


async def unbilled(database: Database) -> int:
    async with database.begin() as session:
        found = await session.execute(
            text("SELECT coalesce(sum(amount_nanos), 0) FROM ledger_balances WHERE kind = 'unbilled'")
        )
        return int(found.scalar_one())


async def test_prices_of_every_kind_read_as_they_were_written(seller: Seller, database: Database) -> None:
    published = await seller.post("/v1/price-books", book({MODEL: ALL_KINDS}))
    assert published["models"] == {MODEL: ALL_KINDS}
    assert published["windows"] == {"peak": PEAK}
    listed = await seller.get("/v1/price-books")
    assert listed["items"] == [published]
    async with database.begin() as session:
        assert set(await price_books(session, [published["id"]])) == {published["id"]}


async def test_gateways_are_told_the_highest_rate_that_could_apply(seller: Seller, valkey: Redis) -> None:
    await seller.post("/v1/price-books", book({MODEL: ALL_KINDS}))
    price = (await card(valkey)).models[MODEL]
    assert (price.input_uncached, price.cache_read, price.cache_write, price.output) == (
        "45",
        "9",
        "45",
        "135",
    )


async def test_window_and_service_tier_decide_a_price_by_the_instant_of_receipt(
    seller: Seller, database: Database
) -> None:
    published = await seller.post("/v1/price-books", book({MODEL: ALL_KINDS}))
    gateway = Gateway(await seller.customer(credit=None, disposition="payg"), published["id"])
    read = TokenCounts(cache_read=MILLION)
    charges = []
    for at, tier in (
        (OFF_PEAK, ServiceTier.STANDARD),
        (AT_PEAK, ServiceTier.STANDARD),
        (OFF_PEAK, ServiceTier.BATCH),
        (AT_PEAK, ServiceTier.BATCH),
    ):
        before = await unbilled(database)
        await take(
            database,
            gateway.event(tokens=read, received_at=at, service_tier=tier, disposition=Disposition.PAYG),
        )
        charges.append(await unbilled(database) - before)
    assert charges == [6 * 10**9, 9 * 10**9, 3 * 10**9, 45 * 10**8]


async def test_a_model_may_cost_a_share_of_what_another_costs(seller: Seller) -> None:
    published = await seller.post(
        "/v1/price-books", book({MODEL: PRICES, "glm-small": {"like": MODEL, "weight": "0.1"}})
    )
    assert published["models"]["glm-small"] == {
        "input_uncached": "3",
        "cache_read": "0.6",
        "cache_write": "3",
        "output": "9",
    }


async def test_a_new_version_leaves_what_was_rated_and_what_was_admitted_under_the_old_one(
    seller: Seller, database: Database
) -> None:
    first = await seller.publish_prices()
    gateway = Gateway(await seller.customer(credit=None, disposition="payg"), first)
    sold: dict[str, Any] = {"tokens": TokenCounts(output_visible=MILLION), "disposition": Disposition.PAYG}
    await take(database, gateway.event(**sold))
    second = await seller.publish_prices({**PRICES, "output": "45"})
    assert await unbilled(database) == 90 * 10**9
    # Admitted before, received by billing after.
    await take(database, gateway.event(**sold))
    assert await unbilled(database) == 180 * 10**9
    gateway.price_book = second
    await take(database, gateway.event(**sold))
    assert await unbilled(database) == 225 * 10**9


async def test_a_version_comes_into_force_at_its_time_and_not_before(
    seller: Seller, valkey: Redis, database: Database
) -> None:
    now = await seller.publish_prices()
    later = await seller.post(
        "/v1/price-books",
        {
            "currency": "USD",
            "models": {MODEL: {**PRICES, "output": "80"}},
            "effective_at": "2026-12-01T00:00:00Z",
        },
    )
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    await put_into_force(database, valkey, now=midnight - timedelta(microseconds=1))
    assert (await card(valkey)).price_book == now
    for _ in range(2):
        await put_into_force(database, valkey, now=midnight)
        assert (await card(valkey)).price_book == later["id"]


async def test_an_organizations_own_prices_inherit_and_its_projects_are_led_to_them(
    seller: Seller, valkey: Redis
) -> None:
    await seller.post("/v1/price-books", book({MODEL: PRICES, "glm-other": PRICES}))
    customer, other = await seller.customer(), await seller.customer()
    own = await seller.post(
        "/v1/price-books",
        {
            "currency": "USD",
            "organization": customer.org,
            "models": {MODEL: {**PRICES, "output": "70"}},
            "inherited_times": "0.8",
        },
    )
    assert own["base"] == "pb_usd_1"
    assert own["models"][MODEL]["output"] == "70"
    assert own["models"]["glm-other"]["output"] == "72"
    record = await project_record(valkey, customer.project)
    assert record.price_list == channels.price_list("USD", customer.org)
    assert (await card(valkey, record.price_list)).price_book == own["id"]
    assert (await project_record(valkey, other.project)).price_list is None
    assert (await card(valkey)).price_book == "pb_usd_1"
    late = await seller.post(
        "/v1/projects",
        {"organization": customer.org, "name": "late", "currency": "USD", "disposition": "payg"},
    )
    assert (await project_record(valkey, late["id"])).price_list == record.price_list


async def test_an_organizations_own_prices_follow_each_version_of_what_they_inherit_from(
    seller: Seller, valkey: Redis, database: Database
) -> None:
    await seller.publish_prices()
    customer = await seller.customer()
    models = {MODEL: PRICES, "glm-next": PRICES}
    await seller.post(
        "/v1/price-books", {"currency": "USD", "models": models, "effective_at": "2026-12-01T00:00:00Z"}
    )
    await seller.post(
        "/v1/price-books",
        {"currency": "USD", "organization": customer.org, "models": {MODEL: {**PRICES, "output": "70"}}},
    )
    price_list = channels.price_list("USD", customer.org)
    assert set((await card(valkey, price_list)).models) == {MODEL}
    await put_into_force(database, valkey, now=datetime(2026, 12, 1, tzinfo=UTC))
    followed = (await card(valkey, price_list)).models
    assert (followed[MODEL].output, followed["glm-next"].output) == ("70", "90")
    await seller.publish_prices({**PRICES, "output": "95", "cache_read": "5"})
    assert (await card(valkey, price_list)).models[MODEL].cache_read == "6"


async def test_nobody_is_charged_by_another_organizations_prices(seller: Seller, database: Database) -> None:
    await seller.publish_prices()
    owner, other = await seller.customer(), await seller.customer()
    own = await seller.post(
        "/v1/price-books",
        {"currency": "USD", "organization": owner.org, "models": {}, "inherited_times": "0.5"},
    )
    (verdict,) = (await take(database, Gateway(other, own["id"]).event())).verdicts
    assert verdict.reason == "price_book_of_another_organization"
    (accepted,) = (await take(database, Gateway(owner, own["id"], boot="boot-2").event())).verdicts
    assert accepted.reason is None


PEAKED = {**PRICES, "windows": {"peak": "2"}}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"models": {MODEL: {**PRICES, "windows": {"night": "2"}}}}, "price_invalid"),
        ({"models": {MODEL: {**PRICES, "cache_read": "31"}}}, "price_invalid"),
        ({"models": {MODEL: {**PRICES, "batch": "1001"}}}, "price_invalid"),
        ({"models": {MODEL: PRICES, "a": {"like": "nobody", "weight": "1"}}}, "price_invalid"),
        ({"windows": {"peak": {**PEAK, "ends_minute": 1079}}}, "price_invalid"),
        ({"windows": {"peak": PEAK, "also": PEAK}}, "price_invalid"),
        ({"inherited_times": "0.5"}, "price_invalid"),
        ({"effective_at": (NOW - timedelta(seconds=1)).isoformat()}, "effective_in_the_past"),
        ({"effective_at": "9999-12-31T23:59:59-14:00"}, "interval_invalid"),
        ({"organization": "org_nobody", "windows": {}}, "not_found"),
        ({"models": {MODEL: {**PRICES, "output": {"kind": "flat", "price": "-1"}}}}, "price_invalid"),
        (
            {"models": {MODEL: {**PRICES, "output": {"kind": "flat", "price": "1", "minimum_charge": "0"}}}},
            "amount_invalid",
        ),
    ],
)
async def test_a_book_that_can_not_be_is_refused_and_nothing_is_published(
    seller: Seller, change: Document, code: str
) -> None:
    assert (await seller.refused("/v1/price-books", {**book({MODEL: PEAKED}), **change}))[1] == code
    assert (await seller.get("/v1/price-books"))["items"] == []


async def test_a_slip_of_the_point_is_asked_back(seller: Seller) -> None:
    await seller.publish_prices()
    slip = {"currency": "USD", "models": {MODEL: {**PRICES, "output": "0.09"}}}
    assert await seller.refused("/v1/price-books", slip) == (409, "price_change_suspicious")
    await seller.post("/v1/price-books", {**slip, "confirm_large_changes": True})


async def test_a_window_that_an_organizations_own_prices_use_can_not_be_taken_away(seller: Seller) -> None:
    await seller.post("/v1/price-books", book({MODEL: PEAKED}))
    customer = await seller.customer()
    await seller.post(
        "/v1/price-books", {"currency": "USD", "organization": customer.org, "models": {MODEL: PEAKED}}
    )
    refusal = await seller.refused("/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES}})
    assert refusal == (422, "price_invalid")
    assert len((await seller.get("/v1/price-books"))["items"]) == 2


async def test_those_that_publish_at_once_make_a_version_each(seller: Seller) -> None:
    await asyncio.gather(*(seller.publish_prices() for _ in range(4)))
    versions = [item["version"] for item in (await seller.get("/v1/price-books"))["items"]]
    assert sorted(versions) == [1, 2, 3, 4]
