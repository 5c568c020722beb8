"""Limits as documents: what is shown can be sent back, and what could be misread is refused."""

from copy import deepcopy
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.billing.accounts.test_changes import CREDITS, DAY, change, project_record
from tests.billing.seller import Seller

FIXED: dict[str, Any] = {
    "kind": "window",
    "ceiling": 1000,
    "window": {
        "seconds": 604_800,
        "shape": "fixed",
        "unit": "tokens",
        "anchor": "2026-11-02T08:30:00.250000+00:00",
    },
}
EVERY = [DAY, CREDITS, FIXED | {"stop": True}, {"kind": "concurrency", "ceiling": 4}]


def windowed(limit: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = deepcopy(limit)
    changed["window"] |= changes
    return changed


async def test_limits_that_are_read_can_be_sent_back_as_they_are(seller: Seller) -> None:
    customer = await seller.customer()
    path = f"/v1/keys/{customer.key}"
    shown = (await change(seller, path, {"limits": EVERY}, 1))["limits"]
    assert shown == EVERY
    (listed,) = (await seller.get(f"/v1/keys?project={customer.project}"))["items"]
    assert (await change(seller, path, {"limits": listed["limits"]}, 2))["limits"] == shown


@pytest.mark.parametrize("ceiling", ["1.00", "1", True, 1.0, 1.5, None])
async def test_a_ceiling_is_a_whole_number_and_nothing_that_may_mean_another(
    seller: Seller, ceiling: object
) -> None:
    customer = await seller.customer()
    body = {"limits": [{**DAY, "ceiling": ceiling}]}
    refused = await seller.ask("PATCH", f"/v1/keys/{customer.key}", body, **{"if-match": "1"})
    assert refused.status_code == 400
    [error] = refused.json()["errors"]
    assert error["at"] == "body.limits.0.ceiling"
    assert "1000000" in error["why"]
    assert error["why"].startswith("a whole number")


HOURS = CREDITS["window"]["rates"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    "limit",
    [
        windowed(CREDITS, rates=[{**HOURS, "begins_minute": 1080, "ends_minute": 840}]),
        windowed(CREDITS, rates=[{**HOURS, "begins_minute": 840, "ends_minute": 840}]),
        windowed(FIXED, rate="0.5"),
        windowed(FIXED, rates=[HOURS]),
        {**DAY, "stop": True},
        {**windowed(FIXED, unit="requests"), "stop": True},
        {**FIXED, "stop": "yes"},
    ],
)
async def test_a_rate_or_stop_that_would_never_hold_is_refused(seller: Seller, limit: Any) -> None:
    customer = await seller.customer()
    path = f"/v1/keys/{customer.key}"
    refused = await seller.refused(path, {"limits": [limit]}, method="PATCH", **{"if-match": "1"})
    assert refused == (400, "invalid_request")


async def test_a_new_organisation_may_have_limits_from_the_beginning(seller: Seller, valkey: Redis) -> None:
    organization = await seller.post("/v1/organizations", {"name": "acme", "limits": EVERY})
    assert organization["limits"] == EVERY
    body = {"organization": organization["id"], "name": "p", "currency": "USD", "disposition": "payg"}
    project = await seller.post("/v1/projects", body)
    record = await project_record(valkey, project["id"])
    assert [limit.kind for limit in record.org_limits] == [limit["kind"] for limit in EVERY]
