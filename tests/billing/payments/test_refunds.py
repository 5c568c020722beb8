"""Refunding top-ups: the credit leaves first, the money follows, and a refund that fails puts both back."""

import asyncio

from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_contracts import channels
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.payments.counter import PAID_FOR_TWENTY, Counter
from tests.billing.seller import Customer, Document
from tests.support.stripe import world
from tests.support.stripe.server import FakeStripe, Fault

TEN_THOUSAND = TokenCounts(output_visible=10_000)  # 0.90 at the prices of the tests
ALL_BACK = {"cash_clearing USD": -88, "psp_fees USD": 88}


def refunds_of(top_up: Document) -> str:
    return f"/v1/top-ups/{top_up['id']}/refunds"


async def test_what_is_left_is_paid_back_to_where_it_came_from(
    counter: Counter, database: Database, valkey: Redis, customer: Customer
) -> None:
    made = await counter.paid(customer)
    gateway = Gateway(customer, await counter.seller.publish_prices())
    await take(database, gateway.event(tokens=TEN_THOUSAND))
    refund = await counter.seller.post(refunds_of(made), {})
    assert (refund["amount"], refund["state"]) == ("19.10", "paid")
    assert await counter.seller.balance(customer.wallet) == "0.00"
    assert await valkey.hget(channels.wallet(customer.wallet), "bal") == b"0"
    balances = await counter.balances()
    assert "refund_liability USD" not in balances
    listed = await counter.seller.get(refunds_of(made))
    assert listed["items"] == [refund]


async def test_a_part_can_be_refunded_and_then_the_rest_and_no_more(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    await counter.seller.post(refunds_of(made), {"amount": "5.00"})
    refused = await counter.seller.refused(refunds_of(made), {"amount": "15.01"})
    assert refused == (409, "credit_not_refundable")
    await counter.seller.post(refunds_of(made), {})
    assert await counter.seller.refused(refunds_of(made), {}) == (409, "credit_not_refundable")
    assert [each["amount"] for each in fake.account.listed("refund")] == [1500, 500]
    assert await counter.balances() == ALL_BACK


async def test_what_running_requests_hold_is_not_refunded(
    counter: Counter, valkey: Redis, customer: Customer
) -> None:
    made = await counter.paid(customer)
    await valkey.hset(channels.wallet(customer.wallet), mapping={"held": 1_500_000, "pend": 500_000})
    assert (await counter.seller.post(refunds_of(made), {}))["amount"] == "18.00"


async def test_what_was_not_paid_is_not_refunded(counter: Counter, customer: Customer) -> None:
    made = await counter.top_up(customer)
    assert await counter.seller.refused(refunds_of(made), {}) == (409, "credit_not_refundable")


async def test_refunds_asked_for_by_many_at_once_never_exceed_what_is_left(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    answers = await asyncio.gather(
        *(counter.seller.ask("POST", refunds_of(made), {"amount": "12.00"}) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert len(fake.account.listed("refund")) == 1


async def test_a_refund_whose_answer_is_lost_is_made_once(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    fake.fail_next(Fault.SILENT)
    assert await counter.seller.refused(refunds_of(made), {}) == (503, "payments_unavailable")
    # Between the two the money is neither spendable nor gone.
    assert (await counter.balances())["refund_liability USD"] == -2000
    await counter.look_later()
    assert len(fake.account.listed("refund")) == 1
    assert await counter.balances() == ALL_BACK


async def test_a_refund_that_stripe_never_answers_for_is_found_by_its_reference(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    fake.fail_next(Fault.BROKEN_FOR_GOOD)
    await counter.seller.refused(refunds_of(made), {})
    await counter.look_later()
    assert (await counter.balances())["refund_liability USD"] == -2000
    counter.clock.passes(hours=21)
    await counter.work()
    assert await counter.balances() == ALL_BACK


async def test_a_refund_that_stripe_refuses_gives_the_credit_back(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    world.dispute(fake.account, made["payment"])
    refund = await counter.seller.post(refunds_of(made), {})
    assert refund["state"] == "failed"
    assert await counter.notices() == ["refund_failed"]
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_refund_that_the_bank_sends_back_is_credit_again(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.paid(customer)
    refund = await counter.seller.post(refunds_of(made), {})
    counter.clock.passes(days=5)
    world.fail_refund(fake.account, refund["refund"])
    await counter.deliver(fake)
    await counter.work(times=2)
    assert await counter.notices() == ["refund_failed"]
    assert await counter.seller.balance(customer.wallet) == "20.00"
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_refund_in_another_currency_than_the_account_s_is_converted_back(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    fake.account.settles_in = "eur"
    made = await counter.paid(customer)
    await counter.seller.post(refunds_of(made), {})
    assert await counter.balances() == {"cash_clearing EUR": -79, "psp_fees EUR": 79}
