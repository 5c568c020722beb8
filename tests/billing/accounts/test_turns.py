"""Whose turn comes when requests wait, and what may answer instead: set, checked, and told to the gateways."""

import pytest
from redis.asyncio import Redis

from headrace_contracts.access import Priority
from tests.billing.accounts.test_changes import change, key_record, project_record
from tests.billing.seller import Seller


async def test_an_organisation_s_weight_reaches_all_of_its_projects(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    assert (await project_record(valkey, customer.project)).org_weight == 1
    changed = await change(seller, f"/v1/organizations/{customer.org}", {"weight": 3}, 1)
    assert changed["weight"] == 3
    assert (await project_record(valkey, customer.project)).org_weight == 3
    kept = await change(seller, f"/v1/organizations/{customer.org}", {"models": ["glm-tiny"]}, 2)
    assert kept["weight"] == 3


async def test_a_new_organisation_may_have_a_weight_from_the_beginning(seller: Seller) -> None:
    made = await seller.post("/v1/organizations", {"name": "acme", "weight": 5})
    assert made["weight"] == 5


async def test_a_key_s_priority_and_fallback_models_reach_the_gateways(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    body = {"project": customer.project, "name": "nightly", "priority": "batch", "fallback_models": ["glm-5"]}
    key = await seller.post("/v1/keys", body)
    record = await key_record(valkey, key["secret"])
    assert (record.priority, record.fallback_models) == (Priority.BATCH, ["glm-5"])
    path = f"/v1/keys/{key['id']}"
    await change(seller, path, {"priority": "interactive", "fallback_models": None}, 1)
    record = await key_record(valkey, key["secret"])
    assert (record.priority, record.fallback_models) == (Priority.INTERACTIVE, None)


async def test_a_project_s_fallback_models_reach_the_gateways(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    path = f"/v1/projects/{customer.project}"
    changed = await change(seller, path, {"fallback_models": ["glm-5", "glm-tiny"]}, 1)
    assert changed["fallback_models"] == ["glm-5", "glm-tiny"]
    assert (await project_record(valkey, customer.project)).fallback_models == ["glm-5", "glm-tiny"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/organizations/{org}", {"weight": 0}),
        ("/v1/organizations/{org}", {"weight": 1001}),
        ("/v1/keys/{key}", {"priority": "urgent"}),
        ("/v1/projects/{project}", {"fallback_models": ["m"] * 9}),
        ("/v1/projects/{project}", {"fallback_models": None}),
    ],
)
async def test_what_no_gateway_could_go_by_is_refused(seller: Seller, path: str, body: object) -> None:
    customer = await seller.customer()
    place = path.format(org=customer.org, key=customer.key, project=customer.project)
    assert await seller.refused(place, body, method="PATCH", **{"if-match": "1"}) == (400, "invalid_request")
