"""Payments as they are deployed: the API and the worker as processes, told of Stripe by their environment."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import pytest
from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_contracts import channels
from tests.billing.payments.conftest import RETURN_URL
from tests.billing.seller import Seller
from tests.billing.test_processes import environment, running, until
from tests.support.stripe import world
from tests.support.stripe.server import API_KEY, WEBHOOK_SECRET, FakeStripe


@pytest.fixture
def env(
    fake: FakeStripe, database_url: str, valkey_url: str, unused_port: Callable[[], int]
) -> dict[str, str]:
    return {
        **environment(database_url, valkey_url, unused_port()),
        "HEADRACE_BILLING_STRIPE_API_KEY": API_KEY,
        "HEADRACE_BILLING_STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "HEADRACE_BILLING_STRIPE_API_URL": fake.url,
        "HEADRACE_BILLING_PAYMENTS_RETURN_URL": RETURN_URL,
    }


async def test_a_checkout_that_is_paid_is_spendable_once_its_webhook_came(
    fake: FakeStripe, database: Database, valkey: Redis, env: dict[str, str]
) -> None:
    port = env["HEADRACE_BILLING_PORT"]
    # Both processes go by the clock of the machine, and so must their Stripe.
    fake.account.now = lambda: datetime.now(UTC)
    with running("headrace_billing", "api", env=env), running("headrace_billing", "worker", env=env):
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def answers() -> bool:
                try:
                    return (await http.get("/healthz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(answers)
            seller = Seller(http)
            customer = await seller.customer(credit=None)
            made = await seller.post(
                "/v1/top-ups", {"wallet": customer.wallet, "amount": "20.00", "currency": "USD"}
            )
            (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
            world.pay(fake.account, session["id"])
            body, signature = fake.webhook(fake.account.events[-1], at=int(time.time()))
            told = await http.post(
                "/v1/stripe/webhook", content=body, headers={"stripe-signature": signature}
            )
            assert told.json() == {"taken": True}

            async def spendable() -> bool:
                return await valkey.hget(channels.wallet(customer.wallet), "bal") == b"20000000"

            await until(spendable)
            assert (await seller.get(f"/v1/top-ups/{made['id']}"))["state"] == "paid"
