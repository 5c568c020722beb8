"""A limit of one model names it as price books do; what would count nothing is refused where it is set."""

from typing import Any

import pytest

from tests.billing.accounts.test_changes import CREDITS, DAY
from tests.billing.seller import MODEL, Customer, Seller

ALIAS = "tiny-latest"


def credits_of(model: str) -> dict[str, Any]:
    window: Any = CREDITS["window"]
    return {**CREDITS, "window": {**window, "weights": {**window["weights"], model: window["weights"]["*"]}}}


def places(customer: Customer, limits: list[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    project = {"organization": customer.org, "name": "p", "currency": "USD", "disposition": "payg"}
    return [
        ("POST", "/v1/organizations", {"name": "o", "limits": limits}),
        ("POST", "/v1/projects", {**project, "limits": limits}),
        ("POST", "/v1/keys", {"project": customer.project, "name": "k", "limits": limits}),
        ("PATCH", f"/v1/organizations/{customer.org}", {"limits": limits}),
        ("PATCH", f"/v1/projects/{customer.project}", {"limits": limits}),
        ("PATCH", f"/v1/keys/{customer.key}", {"limits": limits}),
    ]


@pytest.mark.parametrize(
    ("limit", "param"),
    [
        ({**DAY, "model": ALIAS}, "limits.1.model"),
        ({**DAY, "model": f"{MODEL}-typo"}, "limits.1.model"),
        (credits_of(ALIAS), f"limits.1.window.weights.{ALIAS}"),
    ],
)
async def test_a_limit_of_a_model_without_a_price_is_refused_wherever_it_is_set(
    seller: Seller, limit: Any, param: str
) -> None:
    await seller.publish_prices()
    customer = await seller.customer()
    for method, path, body in places(customer, [DAY, limit]):
        answer = await seller.ask(method, path, body, **{"if-match": "1"})
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["param"]) == (422, "model_unknown", param)


async def test_a_limit_of_a_priced_model_is_taken_wherever_it_is_set(seller: Seller) -> None:
    await seller.publish_prices()
    customer = await seller.customer()
    limits = [{**DAY, "model": MODEL}, credits_of(MODEL)]
    for method, path, body in places(customer, limits):
        answer = await seller.ask(method, path, body, **{"if-match": "1"})
        assert answer.is_success, answer.text
        assert answer.json()["limits"] == limits


async def test_a_plan_counts_no_model_without_a_price_but_may_weigh_it(seller: Seller) -> None:
    await seller.publish_prices()
    plan = {"version": 1, "name": "p", "currency": "USD", "interval": "month", "price": "1.00"}
    limits = [{"kind": "requests_per_minute", "ceiling": 1, "model": ALIAS}]
    answer = await seller.ask("POST", "/v1/plans", {**plan, "code": "a", "entitlements": {"limits": limits}})
    assert answer.json()["code"] == "model_unknown"
    assert answer.json()["param"] == "entitlements.limits.0.model"
    await seller.post("/v1/plans", {**plan, "code": "b", "entitlements": {"limits": [credits_of(ALIAS)]}})
