"""A job killed after any of its statements has done nothing, or all of it, and the next run does the rest."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.accounts import outbox
from headrace_billing.database import Database
from headrace_billing.ledger import store
from headrace_contracts import channels
from headrace_contracts.access import decode_prices
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import MODEL, NOW, PRICES, Customer, Seller

ROOT = Path(__file__).parents[2]
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
PRICES_WITH_MINIMUM = {**PRICES, "output": {"kind": "flat", "price": "90", "minimum_charge": "3.00"}}


@pytest.fixture
async def customer(seller: Seller, database: Database) -> Customer:
    """With all that a job could do half: a month to close, credit to expire, an alert to tell, prices to come."""
    customer = await seller.customer(credit="1.00")
    published = await seller.post(
        "/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES_WITH_MINIMUM}}
    )
    later = {"currency": "USD", "models": {MODEL: PRICES}, "effective_at": DECEMBER.isoformat()}
    await seller.post("/v1/price-books", later)
    body = {
        "wallet": customer.wallet,
        "amount": "5.00",
        "currency": "USD",
        "kind": "promo",
        "reason": "short",
        "expires_at": (NOW + timedelta(days=1)).isoformat(),
    }
    await seller.post("/v1/credit-grants", body)
    gateway = Gateway(customer, published["id"])
    event = gateway.event(tokens=TokenCounts(output_visible=10_000), received_at=NOW - timedelta(hours=1))
    await take(database, event)
    await tell(database, yielded(event))
    await seller.post("/v1/invoice-runs", {"end": NOW.isoformat(), "grace_hours": 0})
    await seller.ask("PUT", f"/v1/wallets/{customer.wallet}/alert", {"below": "50.00"})
    await _subscribe(seller, customer)
    return customer


async def _subscribe(seller: Seller, customer: Customer) -> None:
    """To a plan with a trial that ends before the job runs: then it is charged and gives credit."""
    plan = {
        "code": "lite",
        "version": 1,
        "name": "Lite",
        "currency": "USD",
        "interval": "month",
        "price": "18.00",
        "trial_days": 3,
        "entitlements": {
            "credit": "2.00",
            "limits": [{"kind": "requests_per_minute", "ceiling": 5}],
        },
    }
    published = await seller.post("/v1/plans", plan)
    body = {"organization": customer.org, "wallet": customer.wallet, "plan": published["id"]}
    await seller.post("/v1/subscriptions", body)


async def killed_until_done(step: str, database_url: str, valkey_url: str, customer: Customer) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.billing.killed_step", step, database_url, valkey_url),
        *(customer.org, DECEMBER.isoformat()),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return int(printed.splitlines()[-1])


# What each job leaves behind once, whatever happened on the way.
DONE = {
    "month": ("SELECT sum(charge_nanos) FROM usage_rollups", 3_000_000_000),
    "expiry": ("SELECT count(*) FROM ledger_transactions WHERE kind = 'credit_expired'", 1),
    "invoices": ("SELECT count(*) FROM invoices", 1),
    "credit_notes": (
        "SELECT count(*) FROM invoices i JOIN credit_notes n ON n.invoice = i.id AND n.sequence = 1",
        1,
    ),
    "accounting": ("SELECT count(*) FROM accounting_months", 1),
    "alerts": ("SELECT count(*) FROM notices", 1),
    "subscriptions": (
        """
        SELECT (SELECT count(*) FROM charges WHERE amount_nanos = 18000000000)
             + (SELECT count(*) FROM credit_lots WHERE reason LIKE 'Lite%')
             + (SELECT count(*) FROM subscription_steps WHERE event = 'renewed')
             + (SELECT count(*) FROM webhook_messages WHERE type = 'subscription.renewed')
        """,
        4,
    ),
    "prices": ("SELECT count(*) FROM price_cards WHERE price_book = 'pb_usd_2'", 1),
}


@pytest.mark.parametrize("step", DONE)
async def test_a_job_killed_after_any_statement_is_done_once(
    step: str, customer: Customer, database: Database, database_url: str, valkey_url: str
) -> None:
    deaths = await killed_until_done(step, database_url, valkey_url, customer)
    assert deaths > 2
    query, expected = DONE[step]
    async with database.begin() as session:
        assert (await session.execute(text(query))).scalar_one() == expected
        assert await store.rebuild(session) == []
        assert set((await store.trial_balance(session)).by_currency.values()) == {0}


async def test_a_price_book_in_force_reaches_gateways_although_its_job_died_before_it_told_them(
    customer: Customer, database: Database, database_url: str, valkey: Redis, valkey_url: str
) -> None:
    await killed_until_done("prices", database_url, valkey_url, customer)
    await outbox.push_waiting(database, valkey)
    raw = await valkey.hget(channels.prices("USD"), "r")
    assert isinstance(raw, bytes)
    assert decode_prices(raw).price_book == "pb_usd_2"
