"""Members and their tokens: made, used, changed and ended."""

from dataclasses import replace
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import text

from headrace_billing.app import compose
from headrace_billing.members import member
from headrace_billing.members.permission import Role
from headrace_billing.parts import Parts
from tests.billing.clock import Clock
from tests.billing.members.team import EXPIRES, joined, member_of, token_of
from tests.billing.outcomes.market import OUTCOME_TYPE
from tests.billing.seller import NOW, Seller


async def test_the_admin_s_token_is_an_owner_of_the_seller_s(seller: Seller) -> None:
    me = await seller.get("/v1/me")
    assert (me["id"], me["organization"], me["role"]) == ("bootstrap", None, "owner")
    assert "set_approval_bound" in me["operations"]


async def test_a_member_s_token_is_told_once_and_stored_nowhere(seller: Seller, parts: Parts) -> None:
    made = await member_of(seller, Role.DEVELOPER)
    token = await token_of(seller, made["id"])
    assert token["secret"].startswith("hrs-")
    assert len(token["secret"]) >= 4 + 43
    (listed,) = (await seller.get(f"/v1/members/{made['id']}/tokens"))["items"]
    assert (listed["prefix"], listed["issued_by"]) == (token["secret"][:10], "bootstrap")
    async with parts.database.begin() as session:
        tables = await session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables.scalars().all():
            rows = await session.execute(text(f"SELECT t::text FROM {table} t"))  # noqa: S608
            assert not any(token["secret"] in row for row in rows.scalars()), table


async def test_a_revoked_token_a_removed_member_and_an_expired_token_are_strangers(
    seller: Seller, parts: Parts
) -> None:
    made = await member_of(seller, Role.READ_ONLY)
    first, second = [await token_of(seller, made["id"]) for _ in range(2)]
    holders = [Seller(seller.http, token["secret"]) for token in (first, second)]
    assert (await holders[0].get("/v1/me"))["id"] == made["id"]
    await seller.post(f"/v1/member-tokens/{first['id']}/revoke")
    assert await holders[0].refused("/v1/me", None, method="GET") == (401, "unauthenticated")
    later = replace(parts, now=lambda: NOW + timedelta(days=31))
    transport = httpx2.ASGITransport(app=compose(later))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        late = Seller(http, second["secret"])
        assert await late.refused("/v1/me", None, method="GET") == (401, "unauthenticated")
    assert (await holders[1].get("/v1/me"))["id"] == made["id"]
    await seller.post(f"/v1/members/{made['id']}/remove")
    assert await holders[1].refused("/v1/me", None, method="GET") == (401, "unauthenticated")
    assert await seller.refused(f"/v1/members/{made['id']}/remove", None) == (404, "not_found")


async def test_a_changed_role_holds_from_the_next_request_on(seller: Seller) -> None:
    made = await member_of(seller, Role.FINANCE)
    holder = Seller(seller.http, (await token_of(seller, made["id"]))["secret"])
    await holder.get("/v1/ledger/trial-balance")
    await seller.ask("PATCH", f"/v1/members/{made['id']}", {"role": "developer"})
    refused = await holder.refused("/v1/ledger/trial-balance", None, method="GET")
    assert refused == (403, "role_missing")


async def test_an_admin_neither_makes_nor_ends_an_owner_nor_gets_a_token_of_one(seller: Seller) -> None:
    owner = await member_of(seller, Role.OWNER)
    admin = await joined(seller, Role.ADMIN)
    too_high = (403, "role_too_high")
    assert await admin.refused("/v1/members", {"name": "Eve", "role": "owner"}) == too_high
    path = f"/v1/members/{owner['id']}"
    assert await admin.refused(path, {"role": "read-only"}, method="PATCH") == too_high
    assert await admin.refused(f"{path}/remove", None) == too_high
    assert await admin.refused(f"{path}/tokens", {"name": "x", "expires_at": EXPIRES}) == too_high
    me = await admin.get("/v1/me")
    assert await admin.refused(f"/v1/members/{me['id']}", {"role": "owner"}, method="PATCH") == too_high
    assert (await seller.get(f"{path}/tokens"))["items"] == []


async def test_every_member_renews_its_own_token_and_nobody_else_s(seller: Seller) -> None:
    reader, other = await joined(seller, Role.READ_ONLY), await member_of(seller, Role.READ_ONLY)
    me = (await reader.get("/v1/me"))["id"]
    renewed = await token_of(reader, me)
    assert (await Seller(seller.http, renewed["secret"]).get("/v1/me"))["id"] == me
    body = {"name": "x", "expires_at": EXPIRES}
    assert await reader.refused(f"/v1/members/{other['id']}/tokens", body) == (403, "role_missing")


async def test_a_token_lasts_neither_for_ever_nor_for_nothing_and_there_are_not_too_many(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await member_of(seller, Role.DEVELOPER)
    path = f"/v1/members/{made['id']}/tokens"
    too_long = {"name": "x", "expires_at": (NOW + timedelta(days=400)).isoformat()}
    assert await seller.refused(path, too_long) == (422, "token_life_too_long")
    assert await seller.refused(path, {"name": "x", "expires_at": NOW.isoformat()}) == (
        422,
        "expiry_in_the_past",
    )
    monkeypatch.setattr("headrace_billing.members.store.TOKENS_MAX", 1)
    await token_of(seller, made["id"])
    assert await seller.refused(path, {"name": "x", "expires_at": EXPIRES}) == (409, "too_many_tokens")
    assert member.TOKENS_MAX > 1


async def test_a_customer_s_admin_makes_members_of_its_own_organisation_alone(seller: Seller) -> None:
    mine, other = await seller.customer(), await seller.customer()
    admin = await joined(seller, Role.ADMIN, org=mine.org)
    colleague = await joined(admin, Role.DEVELOPER, org=mine.org)
    assert (await colleague.get("/v1/me"))["organization"] == mine.org
    body = {"name": "Eve", "role": "admin"}
    assert await admin.refused("/v1/members", {**body, "organization": other.org}) == (404, "not_found")
    # Without an organisation it would be one of the seller's staff.
    assert await admin.refused("/v1/members", body) == (400, "invalid_request")
    assert await admin.refused("/v1/members", {**body, "organization": None}) == (400, "invalid_request")
    assert (await seller.get("/v1/members"))["items"] == []


async def test_a_customer_s_developer_makes_and_ends_keys_as_the_seller_would(seller: Seller) -> None:
    customer = await seller.customer()
    developer = await joined(seller, Role.DEVELOPER, org=customer.org)
    key = await developer.post("/v1/keys", {"project": customer.project, "name": "ci"})
    assert (await developer.post(f"/v1/keys/{key['id']}/revoke"))["status"] == "revoked"
    body = {"project": customer.project, "name": "nightly"}
    account = await developer.post("/v1/service-accounts", body)
    listed = await developer.get(f"/v1/keys?project={customer.project}&service_account={account['id']}")
    assert listed["items"] == []


async def test_a_customer_s_member_opens_a_task_and_the_seller_s_can_t_accept_for_it(
    seller: Seller, clock: Clock
) -> None:
    await seller.post("/v1/outcome-types", OUTCOME_TYPE)
    customer = await seller.customer()
    developer = await joined(seller, Role.DEVELOPER, org=customer.org)
    body = {"outcome_type": "arithmetic-answer", "dedupe_key": "What is 17+25?", "project": customer.project}
    task = await developer.post("/v1/tasks", body)
    assert (await developer.get(f"/v1/tasks/{task['id']}"))["status"] == "open"
    staff = await joined(seller, Role.OWNER)
    assert await staff.refused("/v1/outcomes/any/accept", None) == (403, "forbidden")
