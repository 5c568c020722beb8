"""Four eyes: a large grant waits for a second member, and is posted once however often and at once that member agrees."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from headrace_billing.approvals.approval import LIFE
from headrace_billing.database import Database
from headrace_billing.ledger import store as ledger
from headrace_billing.members.permission import Role
from headrace_billing.parts import Parts
from tests.billing.clock import Clock
from tests.billing.members.team import EXPIRES, joined
from tests.billing.seller import Customer, Document, Seller


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(parts: Parts, clock: Clock) -> Parts:
    return replace(parts, now=clock)


@pytest.fixture
async def customer(seller: Seller) -> Customer:
    customer = await seller.customer(credit=None)
    answer = await seller.ask("PUT", "/v1/approval-bounds/grant_credit/USD", {"above": "100.00"})
    assert answer.json() == {"operation": "grant_credit", "currency": "USD", "above": "100.00"}
    return customer


async def ask_for(member: Seller, customer: Customer, amount: str = "250.00") -> Document:
    approval: Document = (await member.grant(amount, wallet=customer.wallet))["approval"]
    return approval


async def test_a_grant_of_no_more_than_the_bound_needs_nobody(seller: Seller, customer: Customer) -> None:
    assert (await seller.grant("100.00", wallet=customer.wallet))["balance"] == "100.00"
    assert (await seller.get("/v1/approvals"))["items"] == []


async def test_a_larger_one_waits_and_is_posted_once_a_second_member_agrees(
    seller: Seller, customer: Customer, database: Database
) -> None:
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE, name="Bo")
    body = {"wallet": customer.wallet, "amount": "250", "currency": "USD", "kind": "paid", "reason": "sorry"}
    headers = {"idempotency-key": "large-1"}
    first = await finance.ask("POST", "/v1/credit-grants", body, **headers)
    again = await finance.ask("POST", "/v1/credit-grants", body, **headers)
    assert (first.status_code, first.json()) == (202, again.json())
    assert again.status_code == 202
    approval = first.json()["approval"]
    assert (approval["status"], approval["amount"], approval["organization"]) == (
        "pending",
        "250.00",
        customer.org,
    )
    assert await seller.balance(customer.wallet) == "0.00"
    answers = await asyncio.gather(
        *(other.ask("POST", f"/v1/approvals/{approval['id']}/approve") for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["result"]["id"] for answer in answers} == {answers[0].json()["result"]["id"]}
    assert await seller.balance(customer.wallet) == "250.00"
    async with database.begin() as session:
        assert await ledger.rebuild(session) == []
    third = await joined(seller, Role.ADMIN)
    assert await third.refused(f"/v1/approvals/{approval['id']}/approve", None) == (409, "approval_decided")
    assert await third.refused(f"/v1/approvals/{approval['id']}/refuse", None) == (409, "approval_decided")
    assert await seller.balance(customer.wallet) == "250.00"


async def test_whoever_asked_can_t_agree_nor_with_a_token_that_it_issued(
    seller: Seller, customer: Customer
) -> None:
    owner = await joined(seller, Role.OWNER)
    approval = await ask_for(owner, customer)
    path = f"/v1/approvals/{approval['id']}/approve"
    mine = (403, "approver_is_requester")
    assert await owner.refused(path, None) == mine
    puppet = await joined(owner, Role.FINANCE)
    assert await puppet.refused(path, None) == mine
    assert await seller.balance(customer.wallet) == "0.00"
    me = (await puppet.get("/v1/me"))["id"]
    own = await puppet.post(f"/v1/members/{me}/tokens", {"name": "own", "expires_at": EXPIRES})
    await Seller(seller.http, own["secret"]).post(path)
    assert await seller.balance(customer.wallet) == "250.00"


async def test_all_who_hold_the_admin_s_token_are_one(seller: Seller, customer: Customer) -> None:
    approval = await ask_for(seller, customer)
    path = f"/v1/approvals/{approval['id']}/approve"
    assert await seller.refused(path, None) == (403, "approver_is_requester")


async def test_a_refused_one_stays_undone_and_whoever_asked_may_take_it_back(
    seller: Seller, customer: Customer
) -> None:
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.ADMIN)
    for decider in (finance, other):
        approval = await ask_for(finance, customer)
        refused = await decider.post(f"/v1/approvals/{approval['id']}/refuse")
        assert (refused["status"], refused["result"]) == ("refused", None)
        path = f"/v1/approvals/{approval['id']}/approve"
        assert await other.refused(path, None) == (409, "approval_decided")
    assert await seller.balance(customer.wallet) == "0.00"


async def test_nobody_agrees_to_it_after_its_time(seller: Seller, customer: Customer, clock: Clock) -> None:
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE)
    approval = await ask_for(finance, customer)
    assert [each["id"] for each in (await seller.get("/v1/approvals?status=pending"))["items"]] == [
        approval["id"]
    ]
    clock.now += LIFE
    assert await other.refused(f"/v1/approvals/{approval['id']}/approve", None) == (409, "approval_decided")
    assert (await seller.get(f"/v1/approvals/{approval['id']}"))["status"] == "expired"
    assert (await seller.get("/v1/approvals?status=pending"))["items"] == []
    assert await seller.balance(customer.wallet) == "0.00"


async def test_what_could_not_be_done_when_it_was_agreed_to_still_waits(
    seller: Seller, customer: Customer, clock: Clock
) -> None:
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE)
    body = {
        "wallet": customer.wallet,
        "amount": "250",
        "currency": "USD",
        "kind": "promo",
        "reason": "short",
        "expires_at": (clock.now + timedelta(days=1)).isoformat(),
    }
    approval = (await finance.post("/v1/credit-grants", body))["approval"]
    clock.passes(days=2)
    path = f"/v1/approvals/{approval['id']}"
    assert await other.refused(f"{path}/approve", None) == (422, "expiry_in_the_past")
    assert (await seller.get(path))["status"] == "pending"


async def test_nonsense_is_refused_before_anybody_is_asked(seller: Seller, customer: Customer) -> None:
    body = {"wallet": customer.wallet, "amount": "250", "currency": "EUR", "kind": "paid", "reason": "x"}
    assert await seller.refused("/v1/credit-grants", body) == (422, "currency_mismatch")
    assert (await seller.get("/v1/approvals"))["items"] == []


async def test_a_bound_of_zero_makes_all_of_it_wait_and_no_bound_nothing(
    seller: Seller, customer: Customer
) -> None:
    path = "/v1/approval-bounds/grant_credit/USD"
    assert (await seller.ask("PUT", path, {"above": "0"})).json()["above"] == "0.00"
    assert (await ask_for(seller, customer, "0.01"))["status"] == "pending"
    assert (await seller.get("/v1/approval-bounds"))["items"] == [
        {"operation": "grant_credit", "currency": "USD", "above": "0.00"}
    ]
    await seller.ask("PUT", path, {"above": None})
    assert (await seller.grant("9999", wallet=customer.wallet))["balance"] == "9999.00"
    admin = await joined(seller, Role.ADMIN)
    assert await admin.refused(path, {"above": "5"}, method="PUT") == (403, "role_missing")
    assert await seller.refused("/v1/approval-bounds/anything/USD", {"above": "5"}, method="PUT") == (
        404,
        "not_found",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE approvals SET amount_nanos = 1",
        "DELETE FROM approvals",
        "UPDATE approvals SET status = 'approved', decided_by = requested_by, decided_at = requested_at, result = '{}'",
    ],
)
async def test_the_database_itself_holds_to_four_eyes(
    seller: Seller, customer: Customer, database: Database, statement: str
) -> None:
    await ask_for(seller, customer)
    with pytest.raises(SQLAlchemyError):
        async with database.begin() as session:
            await session.execute(text(statement))
