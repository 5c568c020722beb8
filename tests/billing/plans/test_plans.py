"""Plans as data: published once a version, and never edited while somebody is billed by it."""

from typing import Any

import pytest

from tests.billing.plans.subscriber import CREDITS, Subscriber, windows
from tests.billing.seller import Document


def body(**fields: Any) -> Document:
    return {
        "code": "team",
        "version": 1,
        "name": "Team",
        "currency": "USD",
        "interval": "month",
        "price": "20.00",
        **fields,
    }


async def test_a_plan_edited_while_it_bills_is_refused_and_nothing_is_posted(subscriber: Subscriber) -> None:
    seller = subscriber.seller
    published = await seller.post("/v1/plans", body())
    await subscriber.subscribe(published["id"])
    before = await subscriber.charged()
    answer = await seller.ask("POST", "/v1/plans", body(price="25.00"))
    assert (answer.status_code, answer.json()["code"]) == (409, "plan_version_published")
    assert "1 subscriptions go by it" in answer.json()["detail"]
    assert "version 2" in answer.json()["detail"]
    assert await seller.get(f"/v1/plans/{published['id']}") == published
    assert await subscriber.charged() == before
    edited = await seller.post("/v1/plans", body(version=2, price="25.00"))
    assert edited["id"] == "plan_team_2"
    await subscriber.passes(days=31)
    assert (await subscriber.charged())[-1] == ("plan.charge", 2000)


async def test_the_same_plan_written_otherwise_is_the_same_plan(subscriber: Subscriber) -> None:
    first = await subscriber.seller.post("/v1/plans", body())
    assert await subscriber.seller.post("/v1/plans", body(price="20", seats_max=1)) == first
    assert [plan["id"] for plan in (await subscriber.seller.get("/v1/plans"))["items"]] == [
        "plan_lite_1",
        "plan_pro_1",
        "plan_team_1",
    ]


SPEND = {"kind": "spend_day", "ceiling": 5}


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"version": 3}, (409, "plan_version_skipped")),
        ({"price": "20.001"}, (422, "plan_invalid")),
        ({"currency": "JPY", "price": "20.50"}, (422, "plan_invalid")),
        ({"currency": "XXQ"}, (422, "currency_unknown")),
        ({"price": "-1"}, (400, "invalid_request")),
        ({"price": "1e3"}, (400, "invalid_request")),
        ({"seats_included": 5}, (400, "invalid_request")),
        ({"entitlements": {"limits": [SPEND]}}, (400, "invalid_request")),
        ({"entitlements": {"limits": [CREDITS]}}, (400, "invalid_request")),
        ({"add_ons": [{"code": "a", "name": "A", "price": "1"}] * 2}, (400, "invalid_request")),
        (
            {"seats_max": 10_000, "entitlements": {**windows(10**9), "limits_per_seat": True}},
            (400, "invalid_request"),
        ),
    ],
)
async def test_what_could_not_be_sold_is_no_plan(
    subscriber: Subscriber, fields: Document, refusal: tuple[int, str]
) -> None:
    assert await subscriber.seller.refused("/v1/plans", body(**fields)) == refusal
    assert (await subscriber.seller.ask("GET", "/v1/plans/plan_team_1")).status_code == 404


async def test_prices_are_whole_in_the_minor_unit_of_each_currency(subscriber: Subscriber) -> None:
    for currency, price in (("JPY", "3000"), ("KWD", "6.125"), ("USD", "20.05")):
        code = f"in-{currency.lower()}"
        plan = await subscriber.seller.post("/v1/plans", body(code=code, currency=currency, price=price))
        assert plan["price"] == price
