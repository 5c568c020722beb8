"""What keys may be used for, which models they may name and where from: set, checked, and told to the gateways."""

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.accounts import changing, store
from headrace_billing.app import compose
from headrace_billing.parts import Parts
from headrace_contracts.access import KeyScope
from tests.billing.accounts.test_changes import change, key_record, project_record
from tests.billing.seller import Seller


async def test_a_new_key_s_scopes_and_networks_reach_the_gateways(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    body = {
        "project": customer.project,
        "name": "ci",
        "scopes": ["inference"],
        "allowed_cidrs": ["203.0.113.0/24", "2001:DB8:0::/32", "198.51.100.7"],
    }
    key = await seller.post("/v1/keys", body)
    record = await key_record(valkey, key["secret"])
    assert record.scopes == [KeyScope.INFERENCE]
    assert (
        record.allowed_cidrs == key["allowed_cidrs"] == ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7/32"]
    )


async def test_changed_access_stands_in_valkey_when_the_change_is_answered(
    seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    path = f"/v1/keys/{customer.key}"
    await change(seller, path, {"allowed_cidrs": ["10.0.0.0/8"], "scopes": ["models:read"]}, 1)
    record = await key_record(valkey, customer.secret)
    assert (record.allowed_cidrs, record.scopes) == (["10.0.0.0/8"], [KeyScope.MODELS_READ])
    await change(seller, path, {"models": ["glm-tiny@2026-09-01", "glm-5"]}, 2)
    assert (await key_record(valkey, customer.secret)).models == ["glm-tiny@2026-09-01", "glm-5"]
    changed = await change(seller, path, {"allowed_cidrs": None}, 3)
    assert (changed["allowed_cidrs"], changed["scopes"]) == (None, ["models:read"])  # what is left out stays
    assert (await key_record(valkey, customer.secret)).allowed_cidrs is None
    await change(seller, f"/v1/projects/{customer.project}", {"allowed_cidrs": ["192.0.2.0/24"]}, 1)
    assert (await project_record(valkey, customer.project)).allowed_cidrs == ["192.0.2.0/24"]


async def test_an_organisation_s_models_reach_all_of_its_projects(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    await change(seller, f"/v1/organizations/{customer.org}", {"models": ["glm-tiny"]}, 1)
    body = {"organization": customer.org, "name": "later", "currency": "USD", "disposition": "payg"}
    later = await seller.post("/v1/projects", body)
    await change(seller, f"/v1/projects/{customer.project}", {"models": ["glm-tiny", "glm-5"]}, 1)
    for project in (customer.project, later["id"]):
        assert (await project_record(valkey, project)).org_models == ["glm-tiny"]


async def test_no_new_project_misses_a_change_of_its_organisation_that_is_under_way(
    seller: Seller, parts: Parts, valkey: Redis
) -> None:
    customer = await seller.customer()
    body = {"organization": customer.org, "name": "another", "currency": "USD", "disposition": "payg"}
    async with parts.database.begin() as session:
        before = await store.organization(session, customer.org)
        await changing.change_organization(session, replace(before, models=["glm-tiny"]))
        adding = asyncio.create_task(seller.post("/v1/projects", body))
        while not adding.done() and not await somebody_waits(parts):  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)
    project = (await adding)["id"]
    assert (await project_record(valkey, project)).org_models == ["glm-tiny"]


async def somebody_waits(parts: Parts) -> bool:
    async with parts.database.begin() as session:
        found = await session.execute(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        return bool(found.scalar_one())


@pytest.mark.parametrize(
    "body",
    [
        {"allowed_cidrs": ["203.0.113.9/24"]},  # a host's bits are a slip of the pen
        {"allowed_cidrs": ["everywhere"]},
        {"allowed_cidrs": []},
        {"allowed_cidrs": ["10.0.0.0/8"] * 101},
        {"models": ["glm-tiny@"]},
        {"scopes": ["everything"]},
        {"scopes": []},
    ],
)
async def test_what_no_gateway_could_go_by_is_refused_and_changes_nothing(
    seller: Seller, valkey: Redis, body: dict[str, Any]
) -> None:
    customer = await seller.customer()
    before = await key_record(valkey, customer.secret)
    path = f"/v1/keys/{customer.key}"
    assert await seller.refused(path, body, method="PATCH", **{"if-match": "1"}) == (400, "invalid_request")
    assert await key_record(valkey, customer.secret) == before


async def test_a_key_without_the_scope_opens_no_task(seller: Seller, parts: Parts) -> None:
    customer = await seller.customer()
    transport = httpx2.ASGITransport(app=compose(replace(parts)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        holder = Seller(http, customer.secret)
        body = {"outcome_type": "none", "dedupe_key": "1"}
        assert await holder.refused("/v1/tasks", body) == (404, "not_found")
        await change(seller, f"/v1/keys/{customer.key}", {"scopes": ["inference"]}, 1)
        assert await holder.refused("/v1/tasks", body) == (403, "scope_missing")
        await change(seller, f"/v1/keys/{customer.key}", {"scopes": ["tasks"]}, 2)
        assert await holder.refused("/v1/tasks", body) == (404, "not_found")


async def test_a_key_that_is_bound_to_networks_is_known_from_there_alone(
    seller: Seller, parts: Parts
) -> None:
    customer = await seller.customer()
    body = {"outcome_type": "none", "dedupe_key": "1"}
    behind_a_proxy = replace(parts, trusted_proxies=(ip_network("127.0.0.0/8"),))
    transport = httpx2.ASGITransport(app=compose(behind_a_proxy))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        holder = Seller(http, customer.secret)
        await change(seller, f"/v1/keys/{customer.key}", {"allowed_cidrs": ["203.0.113.0/24"]}, 1)
        assert await holder.refused("/v1/tasks", body) == (403, "ip_not_allowed")
        elsewhere = {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}
        assert await holder.refused("/v1/tasks", body, **elsewhere) == (403, "ip_not_allowed")
        there = {"x-forwarded-for": "198.51.100.7, 203.0.113.9"}
        assert await holder.refused("/v1/tasks", body, **there) == (404, "not_found")
        await change(seller, f"/v1/projects/{customer.project}", {"allowed_cidrs": ["192.0.2.0/24"]}, 1)
        assert await holder.refused("/v1/tasks", body, **there) == (403, "ip_not_allowed")
