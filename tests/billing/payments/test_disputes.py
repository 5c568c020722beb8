"""Disputes: the credit of a disputed top-up leaves with the money and comes back with it, each once."""

import random

import pytest

from headrace_billing.database import Database
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.payments.counter import PAID_FOR_TWENTY, Counter
from tests.billing.seller import Customer, Document
from tests.support.stripe import world
from tests.support.stripe.server import FakeStripe

# The money is gone, and a fee of fifteen with it.
TAKEN = {"cash_clearing USD": -1588, "psp_fees USD": 1588}


async def dispute_of(counter: Counter) -> Document:
    (dispute,) = (await counter.seller.get("/v1/disputes"))["items"]
    return dict(dispute)


async def test_a_disputed_top_up_takes_its_credit_along(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    world.dispute(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    assert await counter.seller.balance(customer.wallet) == "0.00"
    dispute = await dispute_of(counter)
    assert (dispute["state"], dispute["amount"], dispute["top_up"]) == ("taken", "20.00", made["id"])
    assert await counter.notices() == ["dispute_opened"]
    assert await counter.balances() == TAKEN


async def test_what_was_spent_of_a_disputed_top_up_is_owed(
    counter: Counter, fake: FakeStripe, database: Database, customer: Customer
) -> None:
    made = await counter.paid(customer)
    gateway = Gateway(customer, await counter.seller.publish_prices())
    await take(database, gateway.event(tokens=TokenCounts(output_visible=50_000)))
    world.dispute(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    assert await counter.seller.balance(customer.wallet) == "-4.50"
    # Other credit is left alone, but pays for what was spent.
    await counter.seller.grant("10.00", wallet=customer.wallet)
    assert await counter.seller.balance(customer.wallet) == "5.50"
    (dispute,) = fake.account.listed("dispute")
    world.close_dispute(fake.account, dispute["id"], won=True)
    await counter.deliver(fake)
    await counter.work()
    assert await counter.seller.balance(customer.wallet) == "25.50"


async def test_a_dispute_that_is_won_gives_the_credit_back(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    dispute = world.dispute(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    world.close_dispute(fake.account, dispute["id"], won=True)
    await counter.deliver(fake)
    await counter.work()
    assert (await dispute_of(counter))["state"] == "restored"
    assert await counter.notices() == ["dispute_opened", "dispute_won"]
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_dispute_that_is_lost_leaves_it_at_that(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    dispute = world.dispute(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    world.close_dispute(fake.account, dispute["id"], won=False)
    counter.clock.passes(days=1)  # no webhook came
    await counter.work()
    assert (await dispute_of(counter))["state"] == "lost"
    assert await counter.notices() == ["dispute_lost", "dispute_opened"]
    assert await counter.balances() == TAKEN


async def test_an_inquiry_moves_nothing(counter: Counter, fake: FakeStripe, customer: Customer) -> None:
    made = await counter.paid(customer)
    dispute = world.inquire(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    assert (await dispute_of(counter))["state"] == "open"
    world.close_dispute(fake.account, dispute["id"], won=False)
    await counter.deliver(fake)
    await counter.work()
    assert await counter.notices() == ["dispute_closed", "dispute_opened"]
    assert await counter.balances() == PAID_FOR_TWENTY


@pytest.mark.parametrize("seed", range(2))
async def test_webhooks_of_a_dispute_in_any_order_and_many_times_move_its_money_once(
    counter: Counter, fake: FakeStripe, customer: Customer, seed: int
) -> None:
    made = await counter.paid(customer)
    dispute = world.dispute(fake.account, made["payment"])
    world.close_dispute(fake.account, dispute["id"], won=True)
    shuffled = [event for event in fake.account.events for _ in range(3)]
    random.Random(seed).shuffle(shuffled)
    for event in shuffled:
        await counter.deliver(fake, event)
        await counter.work()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_dispute_whose_webhooks_are_lost_is_found(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    world.dispute(fake.account, made["payment"])
    assert await counter.look_for_disputes() == 1
    await counter.work()
    assert await counter.look_for_disputes() == 0
    assert await counter.balances() == TAKEN


async def test_a_dispute_that_comes_before_its_payment_waits_for_it(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
    world.pay(fake.account, session["id"])
    world.dispute(fake.account, session["payment_intent"])
    await counter.deliver(fake, fake.account.events[-1])
    await counter.work()
    assert (await dispute_of(counter))["state"] == "heard"
    await counter.look_later()
    await counter.look_later()
    assert await counter.balances() == TAKEN


async def test_a_dispute_of_somebody_else_s_payment_is_left_alone(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    intent = fake.account.intent(2000, "usd", {})
    fake.account.charge(intent, None)
    world.dispute(fake.account, intent["id"])
    await counter.look_for_disputes()
    for _ in range(4):
        await counter.work()
        counter.clock.passes(days=1)
    assert (await dispute_of(counter))["state"] == "foreign"
    assert await counter.balances() == {}


async def test_a_dispute_stops_top_ups_that_start_by_themselves(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    body = {
        "threshold": "5.00",
        "amount": "20.00",
        "monthly_ceiling": "100.00",
        "card": await counter.save_card(customer),
    }
    path = f"/v1/wallets/{customer.wallet}/auto-top-up"
    assert (await counter.seller.ask("PUT", path, body)).is_success
    await counter.work()
    (intent,) = fake.account.listed("payment_intent")
    world.dispute(fake.account, intent["id"])
    await counter.deliver(fake)
    await counter.work()
    counter.clock.passes(hours=1)
    await counter.work()
    assert (await counter.seller.get(path))["stopped_reason"] == "disputed"
    assert len(fake.account.listed("payment_intent")) == 1
