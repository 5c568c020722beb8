"""Invoices that are due: asked for by a schedule, tried on the card, and service paused until they are paid."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from headrace_billing.invoicing.parties import PAYMENT_DAYS_DEFAULT
from headrace_billing.payments import jobs
from headrace_billing.payments.collecting import dun
from headrace_billing.payments.dunning import HARD, SCHEDULE, Dunning, DunningState, LastTry, may_charge
from headrace_contracts import channels
from headrace_contracts.access import decode_project
from tests.billing.payments.counter import Counter
from tests.billing.seller import NOW, Customer, Document
from tests.support.stripe import world
from tests.support.stripe.cards import ALWAYS_AUTHENTICATES, DECLINED
from tests.support.stripe.server import FakeStripe

# Of the invoice of nine dollars, once paid: Stripe's fee is 56 cents.
PAID = {"cash_clearing USD": 844, "psp_fees USD": 56, "revenue_tokens USD": -900}
DUE = {"receivable USD": 900, "revenue_tokens USD": -900}


async def pass_days(counter: Counter, days: int) -> None:
    counter.clock.passes(days=days)
    await dun(counter.till, now=counter.clock())
    await jobs.look_at_top_ups(counter.till, now=counter.clock())


async def standing(counter: Counter, customer: Customer) -> tuple[str, int]:
    (dunning,) = (await counter.seller.get(f"/v1/organizations/{customer.org}/dunning"))["items"]
    return dunning["state"], dunning["steps_done"]


async def is_paused(valkey: Redis, customer: Customer) -> bool:
    """As gateways are told."""
    record = await valkey.hget(channels.project(customer.project), "r")
    assert isinstance(record, bytes)
    return decode_project(record).paused


async def pay(counter: Counter, invoice: Document, **fields: object) -> Document:
    return await counter.seller.post(f"/v1/invoices/{invoice['id']}/pay", fields)


async def test_an_invoice_is_paid_by_the_organisation_s_card_on_the_day_it_is_due(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document
) -> None:
    await counter.keep_card(customer)
    await pass_days(counter, PAYMENT_DAYS_DEFAULT - 1)
    assert await counter.notices() == []
    await pass_days(counter, 1)
    assert await standing(counter, customer) == ("paid", 1)
    assert await counter.notices() == ["invoice_due"]
    await pass_days(counter, 30)
    assert len(fake.account.listed("charge")) == 1
    assert await counter.balances() == PAID


async def test_what_nobody_pays_is_asked_for_step_by_step_until_service_is_paused(
    counter: Counter, fake: FakeStripe, valkey: Redis, customer: Customer, invoice: Document
) -> None:
    told, paused = [], []
    await pass_days(counter, PAYMENT_DAYS_DEFAULT)
    for days in (2, 1, 4, 6, 1, 30):
        told.append(len(await counter.notices()))
        paused.append(await is_paused(valkey, customer))
        await pass_days(counter, days)
    assert told == [1, 1, 2, 3, 3, 4]
    assert paused == [False] * 5 + [True]
    assert await counter.notices() == ["invoice_due", "invoice_overdue", "invoice_overdue", "service_paused"]
    assert await standing(counter, customer) == ("paused", len(SCHEDULE))
    (organization,) = (await counter.seller.get("/v1/organizations"))["items"]
    assert organization["paused"]
    assert await counter.balances() == DUE


async def paused_customer(counter: Counter, valkey: Redis, customer: Customer) -> None:
    await pass_days(counter, PAYMENT_DAYS_DEFAULT)
    for _ in SCHEDULE[1:]:
        await pass_days(counter, SCHEDULE[-1].after.days)
    assert await is_paused(valkey, customer)


async def test_service_goes_on_as_soon_as_what_is_due_is_paid(
    counter: Counter, fake: FakeStripe, valkey: Redis, customer: Customer, invoice: Document
) -> None:
    await paused_customer(counter, valkey, customer)
    made = await pay(counter, invoice)
    (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
    world.pay(fake.account, session["id"])
    await counter.deliver(fake)
    await jobs.look_at_top_ups(counter.till, now=counter.clock())
    assert not await is_paused(valkey, customer)
    assert await standing(counter, customer) == ("paid", len(SCHEDULE))
    assert await counter.balances() == PAID


async def test_an_invoice_that_is_paid_by_other_means_is_not_asked_for_any_more(
    counter: Counter, fake: FakeStripe, valkey: Redis, customer: Customer, invoice: Document
) -> None:
    await paused_customer(counter, valkey, customer)
    stopped = await counter.seller.post(f"/v1/invoices/{invoice['id']}/dunning/stop")
    assert (stopped["state"], stopped["next_at"]) == ("stopped", None)
    assert not await is_paused(valkey, customer)
    told = await counter.notices()
    await pass_days(counter, 30)
    assert await counter.notices() == told
    unknown = await counter.seller.refused("/v1/invoices/inv_of_nobody/dunning/stop", None)
    assert unknown == (404, "not_found")


async def test_an_outage_of_ours_makes_nobody_pause_at_once(
    counter: Counter, fake: FakeStripe, valkey: Redis, customer: Customer, invoice: Document
) -> None:
    await pass_days(counter, 90)
    await pass_days(counter, 0)
    assert await standing(counter, customer) == ("running", 1)
    assert not await is_paused(valkey, customer)


async def test_a_card_that_was_declined_is_tried_again_and_another_one_pays(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document
) -> None:
    await counter.keep_card(customer, DECLINED)
    await pass_days(counter, PAYMENT_DAYS_DEFAULT)
    await pass_days(counter, 3)
    assert await counter.notices() == ["invoice_due", "invoice_overdue", "payment_refused", "payment_refused"]
    await counter.keep_card(customer)
    await pass_days(counter, 4)
    assert await standing(counter, customer) == ("paid", 3)
    assert await counter.balances() == PAID


@pytest.mark.parametrize("reason", sorted(HARD))
def test_a_card_that_declines_for_good_is_not_tried_again(reason: str) -> None:
    assert not may_charge("pm_1", LastTry("pm_1", reason))
    assert may_charge("pm_2", LastTry("pm_1", reason))
    assert may_charge("pm_1", LastTry("pm_1", "insufficient_funds"))


async def test_an_invoice_whose_payment_waits_for_the_customer_is_charged_by_nothing_else(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document
) -> None:
    await counter.keep_card(customer, ALWAYS_AUTHENTICATES)
    await pass_days(counter, PAYMENT_DAYS_DEFAULT)
    path = f"/v1/invoices/{invoice['id']}/pay"
    assert await counter.seller.refused(path, {}) == (409, "payment_waits")
    (waiting,) = (await counter.seller.get("/v1/top-ups"))["items"]
    world.authenticate(fake.account, waiting["payment"])
    await counter.look_later()
    assert await counter.seller.refused(path, {}) == (409, "nothing_due")
    assert await counter.balances() == PAID


async def test_an_invoice_whose_payment_is_in_doubt_is_charged_by_nothing_else(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document
) -> None:
    await counter.keep_card(customer)
    made = await pay(counter, invoice)
    (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
    world.pay(fake.account, session["id"], amount_total=899)
    await counter.look_later()
    assert (await counter.shown(made))["state"] == "quarantined"
    await pass_days(counter, PAYMENT_DAYS_DEFAULT)
    assert await counter.notices() == ["invoice_due", "payment_quarantined"]
    assert len(fake.account.listed("charge")) == 1


async def test_a_disputed_payment_makes_the_invoice_due_again(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document
) -> None:
    made = await pay(counter, invoice, card=await counter.save_card(customer))
    dispute = world.dispute(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    assert (await counter.balances())["receivable USD"] == 900
    await pass_days(counter, 0)
    assert await counter.notices() == ["dispute_opened", "invoice_due"]
    world.close_dispute(fake.account, dispute["id"], won=True)
    await counter.deliver(fake)
    await counter.work()
    await pass_days(counter, 3)
    assert await standing(counter, customer) == ("paid", 1)
    assert await counter.balances() == PAID


async def test_the_payment_of_an_invoice_is_no_credit_to_refund(
    counter: Counter, fake: FakeStripe, customer: Customer, invoice: Document
) -> None:
    made = await pay(counter, invoice, card=await counter.save_card(customer))
    assert (made["state"], made["wallet"], made["grant"]) == ("paid", None, None)
    refused = await counter.seller.refused(f"/v1/top-ups/{made['id']}/refunds", {})
    assert refused == (409, "credit_not_refundable")


def test_the_schedule_moves_on_and_pauses_at_its_end_only() -> None:
    assert [step.after for step in SCHEDULE] == sorted({step.after for step in SCHEDULE})
    assert [step.pauses for step in SCHEDULE] == [False] * (len(SCHEDULE) - 1) + [True]
    assert SCHEDULE[-1].after >= timedelta(days=7)


def test_each_step_leaves_time_before_the_next_however_late_it_was() -> None:
    for done, step in enumerate(SCHEDULE[:-1]):
        for late in (timedelta(0), timedelta(hours=5), timedelta(days=90)):
            now = NOW + step.after + late
            dunning = Dunning(
                invoice="inv_1", org="org_1", due_at=NOW, state=DunningState.RUNNING, step=done, next_at=now
            )
            assert dunning.next_step(now) is step
            pause = SCHEDULE[done + 1].after - step.after
            assert now + pause / 2 <= dunning.after_step(now) <= now + pause
