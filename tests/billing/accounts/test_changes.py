"""Changes of limits, models and secrets: by version, and in force as soon as they are answered."""

import hashlib
from typing import Any

import pytest
from redis.asyncio import Redis

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
