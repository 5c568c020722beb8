"""Keys of programs: told apart by their service account, and ended together with it."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from headrace_billing.accounts import service_account_store
from headrace_contracts.access import KeyStatus
from tests.billing.accounts.test_changes import key_record
from tests.billing.seller import Document, Seller


async def account_of(seller: Seller, project: str) -> str:
    made = await seller.post("/v1/service-accounts", {"project": project, "name": "nightly batch"})
    assert (made["status"], made["disabled_at"]) == ("active", None)
    return str(made["id"])


async def key_of(seller: Seller, project: str, account: str) -> Document:
    return await seller.post("/v1/keys", {"project": project, "name": "k", "service_account": account})


async def test_a_service_account_s_keys_are_listed_apart(seller: Seller) -> None:
    customer = await seller.customer()
    account = await account_of(seller, customer.project)
    key = await key_of(seller, customer.project, account)
    assert key["service_account"] == account
    listed = await seller.get(f"/v1/keys?service_account={account}")
    assert [each["id"] for each in listed["items"]] == [key["id"]]
    every = await seller.get(f"/v1/keys?project={customer.project}")
    assert {each["id"]: each["service_account"] for each in every["items"]} == {
        customer.key: None,
        key["id"]: account,
    }
    accounts = await seller.get(f"/v1/service-accounts?project={customer.project}")
    assert [each["id"] for each in accounts["items"]] == [account]


async def test_disabling_one_ends_all_of_its_keys_and_their_rotated_secrets_before_the_answer(
    seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    account = await account_of(seller, customer.project)
    first, second = [await key_of(seller, customer.project, account) for _ in range(2)]
    rotated = await seller.post(f"/v1/keys/{second['id']}/rotate", {"grace_seconds": 3600})
    disabled = await seller.post(f"/v1/service-accounts/{account}/disable")
    assert disabled["status"] == "disabled"
    for secret in (first["secret"], second["secret"], rotated["secret"]):
        assert (await key_record(valkey, secret)).status is KeyStatus.REVOKED
    assert (await key_record(valkey, customer.secret)).status is KeyStatus.ACTIVE
    again = await seller.post(f"/v1/service-accounts/{account}/disable")
    assert again["disabled_at"] == disabled["disabled_at"]


@pytest.mark.parametrize("disabled", [False, True])
async def test_who_may_not_own_a_key_gets_none(seller: Seller, disabled: bool) -> None:
    customer, other = await seller.customer(), await seller.customer()
    account = await account_of(seller, customer.project)
    if disabled:
        await seller.post(f"/v1/service-accounts/{account}/disable")
    project = customer.project if disabled else other.project
    body = {"project": project, "name": "k", "service_account": account}
    expected = (409, "service_account_disabled") if disabled else (404, "not_found")
    assert await seller.refused("/v1/keys", body) == expected
    assert (await seller.get(f"/v1/keys?service_account={account}"))["items"] == []


async def test_it_owns_no_more_keys_than_the_bound_however_many_are_asked_for_at_once(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_account_store, "KEYS_MAX", 2)
    customer = await seller.customer()
    account = await account_of(seller, customer.project)
    body: dict[str, Any] = {"project": customer.project, "name": "k", "service_account": account}
    answers = await asyncio.gather(*(seller.ask("POST", "/v1/keys", body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    assert len((await seller.get(f"/v1/keys?service_account={account}"))["items"]) == 2
