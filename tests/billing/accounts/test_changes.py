"""Changes of limits, models and secrets: by version, and in force as soon as they are answered."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from headrace_billing.app import compose
from headrace_billing.parts import Parts
from headrace_contracts import channels
from headrace_contracts.access import (
    KeyRecord,
    KeyStatus,
    LimitKind,
    ProjectRecord,
    WindowShape,
    decode_key,
    decode_project,
)
from tests.billing.seller import NOW, Seller

DAY = {"kind": "spend_day", "ceiling": 1_000_000}
CREDITS = {
    "kind": "window",
    "ceiling": 2_000_000_000,
    "window": {
        "seconds": 18_000,
        "shape": "sliding",
        "unit": "credits",
        "weights": {"*": {"input": "690", "cached": "170", "output": "2400"}},
        "rate": "0.5",
        "rates": [
            {
                "weekdays": [0, 1, 2, 3, 4],
                "begins_minute": 840,
                "ends_minute": 1080,
                "utc_offset_minutes": 480,
                "rate": "1",
            }
        ],
    },
}


async def key_record(valkey: Redis, secret: str) -> KeyRecord:
    found = await valkey.hget(channels.key(hashlib.sha256(secret.encode()).hexdigest()), "r")
    assert isinstance(found, bytes)
    return decode_key(found)


async def project_record(valkey: Redis, project: str) -> ProjectRecord:
    found = await valkey.hget(channels.project(project), "r")
    assert isinstance(found, bytes)
    return decode_project(found)


async def change(seller: Seller, path: str, body: object, version: int) -> Any:
    answer = await seller.ask("PATCH", path, body, **{"if-match": f'"{version}"'})
    assert answer.is_success, answer.text
    return answer.json()


async def test_a_keys_changed_limits_stand_in_valkey_when_the_change_is_answered(
    seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    changed = await change(seller, f"/v1/keys/{customer.key}", {"limits": [DAY, CREDITS]}, 1)
    assert changed["version"] == 2
    day, credits_window = (await key_record(valkey, customer.secret)).limits
    assert (day.kind, day.ceiling) == (LimitKind.SPEND_DAY, 1_000_000)
    assert credits_window.window is not None
    assert credits_window.window.shape is WindowShape.SLIDING
    changed = await change(seller, f"/v1/keys/{customer.key}", {"models": ["glm-tiny"]}, 2)
    assert len(changed["limits"]) == 2  # what is left out stays


async def test_an_organisations_limits_reach_all_of_its_projects(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    await change(seller, f"/v1/organizations/{customer.org}", {"limits": [DAY]}, 1)
    body = {"organization": customer.org, "name": "later", "currency": "USD", "disposition": "payg"}
    later = await seller.post("/v1/projects", body)
    await change(seller, f"/v1/projects/{customer.project}", {"models": ["glm-tiny"]}, 1)
    for project in (customer.project, later["id"]):
        [limit] = (await project_record(valkey, project)).org_limits
        assert limit.kind is LimitKind.SPEND_DAY


@pytest.mark.parametrize("kind", ["keys", "projects", "organizations"])
async def test_a_change_needs_the_version_that_stands(seller: Seller, kind: str) -> None:
    customer = await seller.customer()
    subject = {"keys": customer.key, "projects": customer.project, "organizations": customer.org}[kind]
    path = f"/v1/{kind}/{subject}"
    body: dict[str, list[object]] = {"limits": []}
    assert await seller.refused(path, body, method="PATCH") == (428, "version_missing")
    await change(seller, path, body, 1)
    assert await seller.refused(path, body, method="PATCH", **{"if-match": "1"}) == (412, "version_conflict")


@pytest.mark.parametrize("kind", ["keys", "projects", "organizations"])
async def test_a_name_can_be_changed_and_never_taken_away(seller: Seller, kind: str) -> None:
    customer = await seller.customer()
    subject = {"keys": customer.key, "projects": customer.project, "organizations": customer.org}[kind]
    path = f"/v1/{kind}/{subject}"
    changed = await change(seller, path, {"name": " Millrace & Sons "}, 1)
    assert (changed["name"], changed["version"]) == ("Millrace & Sons", 2)
    for name in ("", None):
        refused = await seller.refused(path, {"name": name}, method="PATCH", **{"if-match": "2"})
        assert refused == (400, "invalid_request")
    assert (await change(seller, path, {"limits": []}, 2))["name"] == "Millrace & Sons"


async def test_an_expired_key_works_again_once_its_expiry_moves(
    parts: Parts, seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    ends = NOW + timedelta(hours=1)
    body = {"project": customer.project, "name": "k", "expires_at": ends.isoformat()}
    key = await seller.post("/v1/keys", body)
    later = NOW + timedelta(hours=2)
    transport = httpx2.ASGITransport(app=compose(replace(parts, now=lambda: later)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        holder, now = Seller(http, key["secret"]), Seller(http)
        path, usage = f"/v1/keys/{key['id']}", "/v1/usage?start=2026-11-01T00:00:00Z&end=2026-11-02T00:00:00Z"
        assert await holder.refused(usage, None, method="GET") == (401, "unauthenticated")
        moved = await change(now, path, {"expires_at": "2026-11-23T23:00:00+08:00"}, 1)
        assert (moved["version"], moved["expires_at"]) == (2, "2026-11-23T15:00:00+00:00")
        expires_at_us = (await key_record(valkey, key["secret"])).expires_at_us
        assert expires_at_us == int((NOW + timedelta(hours=3)).timestamp()) * 1_000_000
        await holder.get(usage)
        assert (await change(now, path, {"name": "other"}, 2))["expires_at"] == moved["expires_at"]
        assert (await change(now, path, {"expires_at": None}, 3))["expires_at"] is None
        assert (await key_record(valkey, key["secret"])).expires_at_us is None


async def test_a_retired_secret_ends_with_its_key_and_never_after_its_grace(
    seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    rotated = await seller.post(f"/v1/keys/{customer.key}/rotate", {"grace_seconds": 3600})
    for version, minutes, retired_minutes in ((2, 30, 30), (3, 90, 60)):
        ends = (NOW + timedelta(minutes=minutes)).isoformat()
        await change(seller, f"/v1/keys/{customer.key}", {"expires_at": ends}, version)
        found = [
            ((await key_record(valkey, secret)).expires_at_us or 0) // 60_000_000 - int(NOW.timestamp()) // 60
            for secret in (rotated["secret"], customer.secret)
        ]
        assert found == [minutes, retired_minutes]


@pytest.mark.parametrize(
    ("expires_at", "refusal"),
    [
        (NOW.isoformat(), (422, "expiry_in_the_past")),
        ("0001-01-01T00:00:00+14:00", (422, "expiry_in_the_past")),
        ("9999-12-31T23:59:59-14:00", (400, "invalid_request")),
        ("2027-01-01T00:00:00", (400, "invalid_request")),
    ],
)
async def test_an_expiry_that_can_not_be_is_refused(
    seller: Seller, expires_at: str, refusal: tuple[int, str]
) -> None:
    customer = await seller.customer()
    body = {"expires_at": expires_at}
    path = f"/v1/keys/{customer.key}"
    assert await seller.refused(path, body, method="PATCH", **{"if-match": "1"}) == refusal
    made = {**body, "project": customer.project, "name": "k"}
    assert await seller.refused("/v1/keys", made) == refusal


async def test_a_revoked_key_stays_revoked_whatever_its_expiry(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    await seller.post(f"/v1/keys/{customer.key}/revoke")
    changed = await change(seller, f"/v1/keys/{customer.key}", {"expires_at": "2027-01-01T00:00:00Z"}, 2)
    assert changed["status"] == "revoked"
    assert (await key_record(valkey, customer.secret)).status is KeyStatus.REVOKED


async def test_a_rotated_keys_old_secret_ends_after_the_grace(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    rotated = await seller.post(f"/v1/keys/{customer.key}/rotate", {"grace_seconds": 60})
    old, new = await key_record(valkey, customer.secret), await key_record(valkey, rotated["secret"])
    assert old.id == new.id == customer.key
    assert (old.expires_at_us, new.expires_at_us) == ((int(NOW.timestamp()) + 60) * 1_000_000, None)
    await change(seller, f"/v1/keys/{customer.key}", {"limits": [DAY]}, 2)
    assert (await key_record(valkey, customer.secret)).limits != []
    await seller.post(f"/v1/keys/{customer.key}/revoke")
    for secret in (customer.secret, rotated["secret"]):
        assert (await key_record(valkey, secret)).status is KeyStatus.REVOKED
    refused = await seller.refused(f"/v1/keys/{customer.key}/rotate", {"grace_seconds": 0})
    assert refused == (409, "key_not_active")


async def test_rotating_again_ends_the_secret_before_the_last(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    for _ in range(2):
        await seller.post(f"/v1/keys/{customer.key}/rotate", {"grace_seconds": 3600})
    first = await key_record(valkey, customer.secret)
    assert first.expires_at_us is not None
    assert first.expires_at_us <= int(NOW.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    "limit",
    [
        {"kind": "window", "ceiling": 1},
        {**DAY, "window": CREDITS["window"]},
        {"kind": "requests_per_minute", "ceiling": 10**12},
        {"kind": "window", "ceiling": 1, "window": {"seconds": 60, "shape": "fixed", "unit": "credits"}},
    ],
)
async def test_a_limit_that_no_gateway_could_count_is_refused(seller: Seller, limit: Any) -> None:
    customer = await seller.customer()
    path = f"/v1/keys/{customer.key}"
    status, _ = await seller.refused(path, {"limits": [limit]}, method="PATCH", **{"if-match": "1"})
    assert status == 400
