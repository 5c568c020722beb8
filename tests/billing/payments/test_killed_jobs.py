"""A worker killed after any statement, or any answer of Stripe's, has charged, granted and paid back once."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace_billing.invoicing.parties import PAYMENT_DAYS_DEFAULT
from headrace_billing.payments import refunding, top_up_store
from tests.billing.payments.counter import PAID_FOR_TWENTY, Counter
from tests.billing.payments.test_sign_ups import sign_up
from tests.billing.seller import Customer, Document
from tests.support.stripe import world
from tests.support.stripe.cards import ALWAYS_AUTHENTICATES
from tests.support.stripe.server import FakeStripe

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Killer:
    counter: Counter
    fake: FakeStripe
    database_url: str
    valkey_url: str

    async def until_done(self, job: str) -> None:
        self.counter.clock.passes(minutes=2)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.billing.payments.killed_jobs", job, self.database_url, self.valkey_url),
            *(self.fake.url, self.counter.clock().isoformat()),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0
        assert int(printed.splitlines()[-1]) > 4


@pytest.fixture
def killer(counter: Counter, fake: FakeStripe, database_url: str, valkey_url: str) -> Killer:
    return Killer(counter, fake, database_url, valkey_url)


async def test_a_paid_checkout_is_granted_once(
    counter: Counter, fake: FakeStripe, customer: Customer, killer: Killer
) -> None:
    made = await counter.top_up(customer)
    (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
    world.pay(fake.account, session["id"])
    await killer.until_done("top_ups")
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_plan_that_was_signed_up_for_begins_once_and_its_invoice_is_paid_once(
    counter: Counter, fake: FakeStripe, customer: Customer, killer: Killer
) -> None:
    made = await sign_up(counter, customer)
    (session,) = fake.account.listed("checkout.session", client_reference_id=made["payment"])
    world.pay(fake.account, session["id"])
    await killer.until_done("sign_ups")
    counts = {
        table: await counter.count(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of this test
        for table in ("subscriptions", "charges", "invoices", "invoice_settlements")
    }
    assert counts == dict.fromkeys(counts, 1)
    balances = await counter.balances()
    assert (balances["deferred USD"], "receivable USD" in balances, "refund_liability USD" in balances) == (
        -1800,
        False,
        False,
    )


async def test_a_card_is_charged_once_and_its_owner_called_once_by_itself(
    counter: Counter, fake: FakeStripe, customer: Customer, killer: Killer
) -> None:
    body = {
        "threshold": "5.00",
        "amount": "20.00",
        "monthly_ceiling": "100.00",
        "card": await counter.save_card(customer, ALWAYS_AUTHENTICATES),
    }
    assert (await counter.seller.ask("PUT", f"/v1/wallets/{customer.wallet}/auto-top-up", body)).is_success
    await killer.until_done("auto_top_ups")
    (intent,) = fake.account.listed("payment_intent")
    assert await counter.notices() == ["payment_needs_authentication"]
    world.authenticate(fake.account, intent["id"])
    await counter.deliver(fake)
    counter.clock.passes(hours=1)
    await counter.work()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_refund_is_paid_once(
    counter: Counter, fake: FakeStripe, customer: Customer, killer: Killer
) -> None:
    made = await counter.paid(customer)
    async with counter.till.database.begin() as session:
        top_up = await top_up_store.find(session, made["id"])
        await refunding.note(session, counter.till.valkey, top_up, amount_nanos=None, at=counter.clock())
    await killer.until_done("refunds")
    assert len(fake.account.listed("refund")) == 1
    assert await counter.balances() == {"cash_clearing USD": -88, "psp_fees USD": 88}


async def test_a_dispute_takes_and_gives_back_once(
    counter: Counter, fake: FakeStripe, customer: Customer, killer: Killer
) -> None:
    made = await counter.paid(customer)
    dispute = world.dispute(fake.account, made["payment"])
    world.close_dispute(fake.account, dispute["id"], won=True)
    await counter.deliver(fake)
    await killer.until_done("disputes")
    assert await counter.count("SELECT count(*) FROM ledger_transactions WHERE kind = 'disputed'") == 1
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_an_invoice_is_told_of_and_paid_once(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document, killer: Killer
) -> None:
    await counter.keep_card(customer)
    counter.clock.passes(days=PAYMENT_DAYS_DEFAULT)
    await killer.until_done("dunning")
    assert await counter.notices() == ["invoice_due"]
    assert len(fake.account.listed("charge")) == 1
    balances = await counter.balances()
    assert (balances["cash_clearing USD"], balances.get("receivable USD", 0)) == (844, 0)
