"""Credit through the API: who may burn it, what became of it, and what can be paid back."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.ledger import store
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.ledger.notices import tell_low_balances
from headrace_billing.ledger.transaction import Account, AccountKind, business
from headrace_contracts import channels
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import MODEL, NOW, PRICES, Customer, Document, Seller

OTHER = "glm-other"
TEN_THOUSAND = TokenCounts(output_visible=10_000)  # 0.90 at the prices of the tests


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    published = await seller.post(
        "/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES, OTHER: PRICES}}
    )
    return Gateway(await seller.customer(credit=None), published["id"])


async def grant(seller: Seller, customer: Customer, amount: str = "5.00", **fields: Any) -> Document:
    body = {
        "wallet": customer.wallet,
        "amount": amount,
        "currency": "USD",
        "kind": "paid",
        "source": "cash",
        "reason": "transfer 77",
        **fields,
    }
    return await seller.post("/v1/credit-grants", body)


async def left(seller: Seller, *grants: Document) -> list[str]:
    return [(await seller.get(f"/v1/credit-grants/{one['id']}"))["remaining"] for one in grants]


async def pushed(valkey: Redis, customer: Customer) -> int:
    balance = await valkey.hget(channels.wallet(customer.wallet), "bal")
    assert balance is not None
    return int(balance)


async def test_credit_for_a_model_pays_for_it_first_and_for_no_other(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    open_to_all = await grant(seller, gateway.customer)
    for_other = await grant(seller, gateway.customer, "1.00", scope={"model": OTHER}, kind="promo")
    await take(
        database,
        gateway.event(tokens=TEN_THOUSAND),
        gateway.event(tokens=TEN_THOUSAND, model_served=OTHER),
        gateway.event(tokens=TEN_THOUSAND, model_served=OTHER),
    )
    assert await left(seller, open_to_all, for_other) == ["3.30", "0.00"]


async def test_the_order_that_a_grant_asks_for_is_the_order_in_which_it_burns(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    later = await grant(seller, gateway.customer, "1.00")
    first = await grant(seller, gateway.customer, "1.00", priority=1)
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    assert await left(seller, first, later) == ["0.10", "1.00"]


async def test_credit_of_a_narrow_scope_admits_no_request_by_itself(
    seller: Seller, valkey: Redis, gateway: Gateway
) -> None:
    customer = gateway.customer
    await grant(seller, customer, "1.00")
    await grant(seller, customer, "2.00", scope={"model": OTHER})
    await grant(seller, customer, "4.00", scope={"project": customer.project})
    # The wallet's only project may burn what is for it; no model may burn what is for another.
    assert await pushed(valkey, customer) == 5_000_000
    wallet = await seller.get(f"/v1/wallets/{customer.wallet}")
    assert (wallet["balance"], wallet["spendable"]) == ("7.00", "5.00")
    await seller.post(
        "/v1/projects",
        {
            "organization": customer.org,
            "name": "second",
            "currency": "USD",
            "disposition": "prepaid",
            "wallet": customer.wallet,
        },
    )
    assert await pushed(valkey, customer) == 1_000_000


async def test_scoped_credit_repays_no_overdraft_that_others_may_have_made(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    scoped = await grant(seller, gateway.customer, "1.00", scope={"model": OTHER})
    assert await left(seller, scoped) == ["1.00"]
    assert await seller.balance(gateway.customer.wallet) == "0.10"


async def test_a_grant_tells_where_it_came_from_and_everything_that_became_of_it(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    made = await grant(seller, gateway.customer, expires_at=(NOW + timedelta(days=1)).isoformat())
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    await seller.post(f"/v1/credit-grants/{made['id']}/refund", {"amount": "1.00"})
    await expire_lots(database, now=NOW + timedelta(days=1))
    shown = await seller.get(f"/v1/credit-grants/{made['id']}")
    assert (shown["source"], shown["reason"], shown["remaining"]) == ("cash", "transfer 77", "0.00")
    assert [(one["kind"], one["amount"]) for one in shown["movements"]] == [
        ("credit_granted", "5.00"),
        ("usage", "-0.90"),
        ("credit_refunded", "-1.00"),
        ("credit_expired", "-3.10"),
    ]
    listed = await seller.get(f"/v1/credit-grants?wallet={gateway.customer.wallet}")
    assert [one["id"] for one in listed["items"]] == [made["id"]]


async def test_money_that_is_refunded_is_owed_to_the_customer(
    seller: Seller, database: Database, valkey: Redis, gateway: Gateway
) -> None:
    made = await grant(seller, gateway.customer)
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    refund = await seller.post(f"/v1/credit-grants/{made['id']}/refund", {})
    assert (refund["amount"], refund["balance"]) == ("4.10", "0.00")
    assert await pushed(valkey, gateway.customer) == 0
    owed = Account(AccountKind.REFUND_LIABILITY, gateway.customer.org, "USD")
    async with database.begin() as session:
        assert await store.balance(session, owed) == -4_100_000_000
        assert await store.rebuild(session) == []


async def test_credit_given_by_hand_goes_back_where_it_came_from(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    made = await grant(seller, gateway.customer, source="manual")
    await seller.post(f"/v1/credit-grants/{made['id']}/refund", {})
    async with database.begin() as session:
        assert await store.balance(session, business(AccountKind.MANUAL_GRANTS, "USD")) == 0


async def test_what_running_requests_hold_is_not_refunded(
    seller: Seller, valkey: Redis, gateway: Gateway
) -> None:
    made = await grant(seller, gateway.customer)
    await valkey.hset(channels.wallet(gateway.customer.wallet), mapping={"held": 1_500_000, "pend": 500_000})
    path = f"/v1/credit-grants/{made['id']}/refund"
    assert await seller.refused(path, {"amount": "3.01"}) == (409, "credit_not_refundable")
    assert (await seller.post(path, {}))["amount"] == "3.00"


async def test_the_same_refund_asked_for_by_many_at_once_is_paid_once(
    seller: Seller, gateway: Gateway
) -> None:
    made = await grant(seller, gateway.customer)
    path = f"/v1/credit-grants/{made['id']}/refund"
    answers = await asyncio.gather(*(seller.ask("POST", path, {"amount": "3.00"}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert await left(seller, made) == ["2.00"]


async def test_a_gift_and_expired_credit_are_not_refunded(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    gift = await grant(seller, gateway.customer, kind="promo")
    used_up = await grant(seller, gateway.customer, "0.10", priority=1)
    await take(database, gateway.event(tokens=TokenCounts(output_visible=1_000_000)))
    for one in (gift, used_up):
        path = f"/v1/credit-grants/{one['id']}/refund"
        assert await seller.refused(path, {}) == (409, "credit_not_refundable")
    assert await seller.refused("/v1/credit-grants/lot_nobody/refund", {}) == (404, "not_found")


async def test_credit_for_a_project_of_another_wallet_is_refused(seller: Seller, gateway: Gateway) -> None:
    other = await seller.customer(credit=None)
    body = {
        "wallet": gateway.customer.wallet,
        "amount": "1",
        "currency": "USD",
        "kind": "promo",
        "reason": "x",
        "scope": {"project": other.project},
    }
    assert await seller.refused("/v1/credit-grants", body) == (422, "scope_invalid")


async def notices(seller: Seller) -> list[Document]:
    items: list[Document] = (await seller.get("/v1/notices"))["items"]
    return items


async def test_each_fall_below_the_alert_is_told_once(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    customer = gateway.customer
    await grant(seller, customer, "1.50")
    answer = await seller.ask("PUT", f"/v1/wallets/{customer.wallet}/alert", {"below": "1.00"})
    assert answer.json() == {"wallet": customer.wallet, "below": "1.00"}
    assert await tell_low_balances(database, now=NOW) == 0
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    await asyncio.gather(*(tell_low_balances(database, now=NOW) for _ in range(3)))
    (notice,) = await notices(seller)
    assert (notice["organization"], notice["kind"]) == (customer.org, "balance_low")
    assert notice["content"] == {
        "wallet": customer.wallet,
        "currency": "USD",
        "balance": "0.60",
        "below": "1.00",
    }
    await grant(seller, customer, "1.00")
    await tell_low_balances(database, now=NOW)
    assert len(await notices(seller)) == 1
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    await tell_low_balances(database, now=NOW)
    assert len(await notices(seller)) == 2


async def test_an_alert_that_is_taken_away_tells_nothing(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    path = f"/v1/wallets/{gateway.customer.wallet}/alert"
    await seller.ask("PUT", path, {"below": "1.00"})
    await seller.ask("PUT", path, {"below": None})
    await tell_low_balances(database, now=NOW)
    assert await notices(seller) == []
