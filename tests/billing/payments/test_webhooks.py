"""Webhooks: signed or refused, in any order, many times or never; each only a hint at where to look."""

import random

import pytest

from tests.billing.payments.counter import PAID_FOR_TWENTY, Counter
from tests.billing.payments.page import pay, session_of
from tests.billing.seller import Customer
from tests.support.stripe.server import FakeStripe


@pytest.mark.parametrize("seed", range(3))
async def test_webhooks_in_any_order_and_many_times_grant_once(
    counter: Counter, fake: FakeStripe, customer: Customer, seed: int
) -> None:
    made = await counter.top_up(customer)
    pay(fake, made)
    shuffled = [event for event in fake.account.events for _ in range(3)]
    random.Random(seed).shuffle(shuffled)
    for event in shuffled:
        await counter.deliver(fake, event)
        await counter.work()
    assert await counter.balances() == PAID_FOR_TWENTY
    assert await counter.count("SELECT sum(times) FROM stripe_events") == len(shuffled)


async def test_what_a_webhook_says_is_not_believed(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    session = fake.account.get(session_of(fake, made))
    fake.account.tell(
        "checkout.session.completed", session | {"status": "complete", "payment_status": "paid"}
    )
    await counter.deliver(fake)
    await counter.work()
    assert (await counter.shown(made))["state"] == "open"
    assert await counter.balances() == {}


async def test_a_webhook_that_stripe_did_not_sign_changes_nothing(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    pay(fake, await counter.top_up(customer))
    event = fake.account.events[-1]
    body, signature = fake.webhook(event)
    refusals = [
        await counter.webhook(fake, event, secret="whsec_of_nobody"),
        await counter.post_webhook(body + b" ", signature),
        await counter.post_webhook(body, ""),
        await counter.post_webhook(b"\xff", signature),
    ]
    assert [(status, problem["code"]) for status, problem in refusals] == [(400, "webhook_unsigned")] * 4
    status, problem = await counter.webhook(fake, event, at=event["created"])
    assert (status, problem["code"]) == (400, "webhook_stale")
    await counter.work()
    assert await counter.count("SELECT count(*) FROM stripe_events") == 0
    assert await counter.balances() == {}


async def test_a_webhook_of_something_else_is_noted_and_answered(counter: Counter, fake: FakeStripe) -> None:
    fake.account.tell("customer.created", fake.account.create_customer({}))
    assert await counter.webhook(fake, fake.account.events[-1]) == (200, {"taken": False})
