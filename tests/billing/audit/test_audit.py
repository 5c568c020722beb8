"""Who did what: written with the change, refused to be changed, and without anybody's secret."""

import asyncio
from dataclasses import replace
from ipaddress import ip_network

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from headrace_billing.app import compose
from headrace_billing.audit.deed import Deed
from headrace_billing.database import Database
from headrace_billing.members.permission import Role
from headrace_billing.parts import Parts
from headrace_billing.valkey import connect
from tests.billing.members.team import joined, member_of, token_of
from tests.billing.outcomes.market import OUTCOME_TYPE
from tests.billing.seller import Customer, Document, Seller


async def entries(seller: Seller, query: str = "") -> list[Document]:
    items: list[Document] = (await seller.get(f"/v1/audit-log?{query}"))["items"]
    return items


async def change_limits(seller: Seller, customer: Customer, **headers: str) -> httpx2.Response:
    limits = [{"kind": "requests_per_minute", "ceiling": 60}]
    headers = {"if-match": '"1"', **headers}
    return await seller.ask("PATCH", f"/v1/projects/{customer.project}", {"limits": limits}, **headers)


async def test_a_change_is_told_with_who_made_it_from_where_and_what_it_was_before(seller: Seller) -> None:
    customer = await seller.customer()
    made = await member_of(seller, Role.ADMIN, name="Grace")
    token = await token_of(seller, made["id"])
    grace = Seller(seller.http, token["secret"])
    answer = await change_limits(grace, customer, **{"x-request-id": "req-7", "idempotency-key": "once-7"})
    assert answer.status_code == 200
    (entry,) = await entries(seller, f"actor={made['id']}")
    assert entry["actor"] == {
        "side": "seller",
        "id": made["id"],
        "name": "Grace",
        "role": "admin",
        "token_prefix": token["prefix"],
    }
    assert (entry["operation"], entry["outcome"], entry["code"]) == ("change_project", "done", None)
    assert (entry["organization"], entry["objects"]) == (customer.org, [customer.project])
    assert (entry["address"], entry["request_id"], entry["idempotency_key"]) == (
        "127.0.0.1",
        "req-7",
        "once-7",
    )
    (limits,) = entry["changes"].values()
    assert limits["limits"]["before"] == []
    assert limits["limits"]["after"][0]["ceiling"] == 60


async def test_what_is_created_is_told_by_its_id(seller: Seller) -> None:
    customer = await seller.customer(credit="5.00")
    told = {entry["operation"]: entry["objects"] for entry in await entries(seller)}
    assert told["add_organization"] == [customer.org]
    assert told["add_project"][:2] == [customer.org, customer.project]
    assert customer.wallet in told["add_project"]
    assert told["add_key"] == [customer.project, customer.key]
    assert any(each.startswith("lot_") for each in told["grant_credit"])


async def test_every_room_s_changes_are_told_once_each(seller: Seller) -> None:
    customer = await seller.customer()
    await seller.publish_prices()
    await seller.post("/v1/outcome-types", OUTCOME_TYPE)
    buyer = Seller(seller.http, customer.secret)
    task = await buyer.post(
        "/v1/tasks", {"outcome_type": "arithmetic-answer", "dedupe_key": "What is 17+25?"}
    )
    evidence = {
        "question": "What is 17+25?",
        "answer": "42",
        "request_id": "3f1c9b1e-0000-4000-8000-000000000000",
    }
    await buyer.post(f"/v1/tasks/{task['id']}/outcomes", {"observer": "agent", "evidence": evidence})
    await seller.ask("PUT", f"/v1/wallets/{customer.wallet}/alert", {"below": "1.00"})
    await seller.post(f"/v1/keys/{customer.key}/revoke")
    told = [entry["operation"] for entry in await entries(seller)]
    assert sorted(told) == sorted(
        [
            *("add_organization", "add_project", "grant_credit", "add_key", "publish_price_book"),
            *("add_outcome_type", "add_task", "report_outcome", "set_alert", "revoke_key"),
        ]
    )
    by_key = await entries(seller, f"actor={customer.key}")
    assert {entry["actor"]["side"] for entry in by_key} == {"key"}
    assert {entry["actor"]["token_prefix"] for entry in by_key} == {customer.secret[:10]}


async def test_a_repetition_that_changes_nothing_is_no_second_entry(seller: Seller) -> None:
    customer = await seller.customer(credit=None)
    body = {"wallet": customer.wallet, "amount": "1", "currency": "USD", "kind": "promo", "reason": "hi"}
    for _ in range(2):
        await seller.ask("POST", "/v1/credit-grants", body, **{"idempotency-key": "grant-1"})
    assert len(await entries(seller, "operation=grant_credit")) == 1


async def test_reading_leaves_no_entry(seller: Seller) -> None:
    await seller.get("/v1/organizations")
    assert await entries(seller) == []


async def test_what_was_refused_is_told_too(seller: Seller) -> None:
    customer = await seller.customer()
    reader = await joined(seller, Role.READ_ONLY)
    assert (await change_limits(reader, customer)).status_code == 403
    assert (await change_limits(seller, customer, **{"if-match": '"9"'})).status_code == 412
    refused = await entries(seller, "outcome=refused")
    assert {(entry["actor"]["role"], entry["code"]) for entry in refused} == {
        ("read-only", "role_missing"),
        ("owner", "version_conflict"),
    }
    assert all(entry["changes"] == {} for entry in refused)


async def test_a_change_whose_push_failed_stands_and_is_told_as_done(seller: Seller, parts: Parts) -> None:
    customer = await seller.customer()
    nowhere = connect("redis://127.0.0.1:1/0")
    transport = httpx2.ASGITransport(app=compose(replace(parts, valkey=nowhere)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        refused = await Seller(http).refused(f"/v1/keys/{customer.key}/revoke", None)
    assert refused == (503, "push_pending")
    await nowhere.aclose()
    (entry,) = await entries(seller, "operation=revoke_key")
    assert (entry["outcome"], entry["changes"][customer.key]["status"]["after"]) == ("done", "revoked")


async def test_a_change_that_can_t_be_told_is_not_made(
    seller: Seller, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await seller.customer()

    async def broken(*_: object, **__: object) -> None:
        raise OSError("no entry")

    monkeypatch.setattr(Deed, "_insert", broken)
    with pytest.raises(OSError, match="no entry"):
        await seller.post(f"/v1/keys/{customer.key}/revoke")
    monkeypatch.undo()
    (key,) = (await seller.get(f"/v1/keys?project={customer.project}"))["items"]
    assert key["status"] == "active"


async def test_nothing_that_runs_after_a_request_is_taken_for_its_doing(
    seller: Seller, database: Database
) -> None:
    customer = await seller.customer()
    assert (await change_limits(seller, customer, **{"if-match": '"9"'})).status_code == 412
    before = len(await entries(seller))
    async with database.begin() as session:
        await session.execute(text("UPDATE api_keys SET name = 'x' WHERE id = :id"), {"id": customer.key})
    assert len(await entries(seller)) == before


async def test_requests_at_the_same_time_are_each_told_as_their_own(seller: Seller) -> None:
    customer = await seller.customer()
    members = [await joined(seller, Role.DEVELOPER, name=f"dev{n}") for n in range(4)]
    keys = await asyncio.gather(
        *(
            member.post("/v1/keys", {"project": customer.project, "name": f"key{n}"})
            for n, member in enumerate(members)
        )
    )
    told = {
        entry["objects"][1]: entry["actor"]["name"]
        for entry in await entries(seller, "operation=add_key")
        if entry["actor"]["name"].startswith("dev")
    }
    assert told == {key["id"]: f"dev{n}" for n, key in enumerate(keys)}


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_the_database_refuses_to_change_it(seller: Seller, database: Database, statement: str) -> None:
    await seller.customer(credit=None)
    with pytest.raises(SQLAlchemyError, match="append-only"):
        async with database.begin() as session:
            await session.execute(text(statement))


async def test_no_secret_is_in_it(seller: Seller, database: Database) -> None:
    customer = await seller.customer()
    rotated = await seller.post(f"/v1/keys/{customer.key}/rotate", {"grace_seconds": 60})
    made = await member_of(seller, Role.ADMIN)
    token = await token_of(seller, made["id"])
    endpoint = await seller.post("/v1/webhook-endpoints", {"url": "https://hooks.example.com/"})
    async with database.begin() as session:
        rows = (await session.execute(text("SELECT a::text FROM audit_log a"))).scalars().all()
    for secret in (customer.secret, rotated["secret"], token["secret"], endpoint["secret"], seller.token):
        assert not any(secret in row for row in rows)


async def test_a_customer_s_members_see_their_own_organisation_s_entries_and_not_who_the_seller_s_are(
    seller: Seller,
) -> None:
    mine, other = await seller.customer(), await seller.customer()
    owner = await joined(seller, Role.OWNER, org=mine.org)
    await change_limits(seller, mine)
    await change_limits(seller, other)
    await owner.post(f"/v1/keys/{mine.key}/revoke")
    seen = await entries(owner)
    assert {entry["organization"] for entry in seen} == {mine.org}
    by = {entry["operation"]: (entry["actor"]["name"], entry["address"]) for entry in seen}
    assert (by["change_project"], by["revoke_key"]) == (("seller", None), ("Ada", "127.0.0.1"))
    assert await owner.refused(f"/v1/audit-log?organization={other.org}", None, method="GET") == (
        404,
        "not_found",
    )
    developer = await joined(seller, Role.DEVELOPER, org=mine.org)
    assert await developer.refused("/v1/audit-log", None, method="GET") == (403, "role_missing")


async def test_it_is_read_by_pages_and_filters(seller: Seller) -> None:
    customer = await seller.customer()
    whole = await entries(seller)
    first = await seller.get("/v1/audit-log?limit=2")
    rest = await entries(seller, f"after={first['next']}")
    assert first["items"] + rest == whole
    assert [e["operation"] for e in await entries(seller, f"object={customer.key}")] == ["add_key"]
    assert await entries(seller, "start=2030-01-01T00:00:00Z") == []
    assert len(await entries(seller, f"organization={customer.org}&end=2030-01-01T00:00:00Z")) == 3


async def test_an_address_is_believed_from_a_trusted_proxy_alone(parts: Parts, seller: Seller) -> None:
    await seller.ask("POST", "/v1/organizations", {"name": "A"}, **{"x-forwarded-for": "198.51.100.7"})
    behind = replace(parts, trusted_proxies=[ip_network("127.0.0.0/8")])
    transport = httpx2.ASGITransport(app=compose(behind))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        proxied = Seller(http)
        await proxied.ask("POST", "/v1/organizations", {"name": "B"}, **{"x-forwarded-for": "198.51.100.7"})
    assert {entry["address"] for entry in await entries(seller)} == {"127.0.0.1", "198.51.100.7"}
