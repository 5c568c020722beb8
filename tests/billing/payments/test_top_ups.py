"""Topping up on Stripe's page: credit is granted once Stripe says that it is paid, once, and for exactly what was asked."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import httpx2
import pytest

from headrace_billing.app import compose
from headrace_billing.parts import Parts
from headrace_billing.payments.bounds import OPEN_MAX
from tests.billing.payments.counter import PAID_FOR_TWENTY, Counter
from tests.billing.payments.page import pay, session_of
from tests.billing.seller import Customer, Document, Seller
from tests.support.stripe import world
from tests.support.stripe.account import Refused
from tests.support.stripe.cards import DECLINED
from tests.support.stripe.server import FakeStripe, Fault


async def test_a_checkout_waits_at_its_address_and_can_be_cancelled(
    counter: Counter, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    assert made["state"] == "open"
    assert made["url"].startswith("https://checkout.stripe.com/")
    cancelled = await counter.seller.post(f"/v1/top-ups/{made['id']}/cancel")
    assert (cancelled["state"], cancelled["url"]) == ("expired", None)
    assert await counter.balances() == {}


async def test_the_same_request_sent_again_is_the_same_checkout(counter: Counter, customer: Customer) -> None:
    first = await counter.top_up(customer, key="once")
    assert await counter.top_up(customer, key="once") == first
    body = {"wallet": customer.wallet, "amount": "21.00", "currency": "USD"}
    again = await counter.seller.refused("/v1/top-ups", body, **{"idempotency-key": "once"})
    assert again == (409, "idempotency_conflict")


async def test_a_paid_checkout_is_granted_as_soon_as_a_webhook_hints_at_it(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    pay(fake, made)
    assert await counter.seller.balance(customer.wallet) == "0.00"
    await counter.deliver(fake)
    await counter.work()
    shown = await counter.shown(made)
    assert (shown["state"], shown["grant"]) == ("paid", f"lot_{made['id']}")
    assert await counter.seller.balance(customer.wallet) == "20.00"
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_checkout_whose_webhooks_are_lost_is_found_by_looking(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    await counter.look_later()
    pay(fake, made)
    await counter.look_later()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_many_workers_at_once_grant_once(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    pay(fake, made)
    await counter.deliver(fake)
    cancelled = counter.seller.post(f"/v1/top-ups/{made['id']}/cancel")
    await asyncio.gather(cancelled, *(counter.work() for _ in range(4)))
    assert await counter.balances() == PAID_FOR_TWENTY


@pytest.mark.parametrize(
    ("otherwise", "reason"),
    [
        ({"amount_total": 1999}, "amount_differs"),
        ({"currency": "eur"}, "currency_differs"),
        ({"client_reference_id": "tup_of_somebody_else"}, "reference_differs"),
        ({"payment_intent": None}, "paid_without_payment"),
    ],
)
async def test_what_was_not_asked_for_is_a_doubt_and_no_credit(
    counter: Counter, fake: FakeStripe, customer: Customer, otherwise: Document, reason: str
) -> None:
    made = await counter.top_up(customer)
    pay(fake, made, **otherwise)
    await counter.deliver(fake, fake.account.events[-1])
    await counter.look_later()
    shown = await counter.shown(made)
    assert (shown["state"], shown["reason"]) == ("quarantined", reason)
    assert await counter.notices() == ["top_up_quarantined"]
    assert await counter.balances() == {}


async def test_a_checkout_that_stripe_does_not_know_keeps_no_other_waiting(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    lost, other = await counter.top_up(customer), await counter.top_up(customer)
    pay(fake, other)
    del fake.account.objects[session_of(fake, lost)]
    await counter.look_later()
    assert [(await counter.shown(one))["state"] for one in (lost, other)] == ["open", "paid"]


async def test_nobody_pays_an_expired_checkout(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    session = session_of(fake, made)
    counter.clock.passes(hours=2)
    with pytest.raises(Refused):
        world.pay(fake.account, session)
    await counter.work()
    assert (await counter.shown(made))["state"] == "expired"
    assert await counter.notices() == []


async def test_a_declined_card_leaves_the_checkout_open_for_another(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer)
    with pytest.raises(Refused):
        pay(fake, made, card=DECLINED)
    await counter.look_later()
    assert (await counter.shown(made))["state"] == "open"
    pay(fake, made)
    await counter.look_later()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_so_many_checkouts_wait_and_no_more(counter: Counter, customer: Customer) -> None:
    made = [await counter.top_up(customer) for _ in range(OPEN_MAX)]
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD"}
    assert await counter.seller.refused("/v1/top-ups", body) == (409, "too_many_open_top_ups")
    await counter.seller.post(f"/v1/top-ups/{made[0]['id']}/cancel")
    assert (await counter.top_up(customer))["state"] == "open"


async def test_a_bank_transfer_is_granted_when_the_money_is_there(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer, bank_transfer=True)
    session = session_of(fake, made)
    world.pay(fake.account, session)
    await counter.deliver(fake)
    await counter.work()
    assert (await counter.shown(made))["state"] == "open"
    counter.clock.passes(days=3)
    world.transfer_arrives(fake.account, session)
    await counter.work()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_bank_transfer_that_never_comes_is_called_off(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer, bank_transfer=True)
    world.pay(fake.account, session_of(fake, made))
    counter.clock.passes(days=30)
    await counter.work()
    assert (await counter.shown(made))["state"] == "expired"
    (intent,) = fake.account.listed("payment_intent")
    assert intent["status"] == "canceled"


async def test_a_fee_that_stripe_books_later_is_posted_then(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    fake.account.fees_come_late = True
    made = await counter.top_up(customer)
    pay(fake, made)
    await counter.look_later()
    assert await counter.balances() == {"cash_clearing USD": 2000, "wallet_paid USD": -2000}
    world.fees_arrive(fake.account)
    await counter.deliver(fake, fake.account.events[-1])
    await counter.work()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_what_stripe_converts_is_posted_in_both_currencies(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    fake.account.settles_in = "eur"
    pay(fake, await counter.top_up(customer))
    await counter.look_later()
    assert await counter.balances() == {
        "wallet_paid USD": -2000,
        "fx USD": 2000,
        "fx EUR": -1800,
        "cash_clearing EUR": 1721,
        "psp_fees EUR": 79,
    }


@pytest.mark.parametrize(
    ("amount", "currency", "minor"), [("12.34", "USD", 1234), ("1234", "JPY", 1234), ("12.340", "KWD", 12340)]
)
async def test_stripe_is_asked_for_the_currency_s_own_minor_units(
    counter: Counter, fake: FakeStripe, amount: str, currency: str, minor: int
) -> None:
    customer = await counter.customer_in(currency)
    made = await counter.top_up(customer, amount, currency=currency)
    assert made["amount"] == amount
    assert fake.account.get(session_of(fake, made))["amount_total"] == minor
    pay(fake, made)
    await counter.look_later()
    assert Decimal(await counter.seller.balance(customer.wallet)) == Decimal(amount)


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("4.99", "USD", "top_up_out_of_bounds"),
        ("10000.01", "USD", "top_up_out_of_bounds"),
        ("12.345", "USD", "top_up_out_of_bounds"),
        ("12.345", "KWD", "top_up_out_of_bounds"),
        ("1000.5", "JPY", "top_up_out_of_bounds"),
        ("50000", "UGX", "top_up_currency_unsupported"),
    ],
)
async def test_an_amount_that_cannot_be_paid_is_refused_before_stripe_hears_of_it(
    counter: Counter, amount: str, currency: str, code: str
) -> None:
    customer = await counter.customer_in(currency)
    body = {"wallet": customer.wallet, "amount": amount, "currency": currency}
    assert await counter.seller.refused("/v1/top-ups", body) == (422, code)
    assert await counter.count("SELECT count(*) FROM top_ups") == 0


async def test_a_bank_transfer_is_refused_where_stripe_has_no_account_to_send_it_to(counter: Counter) -> None:
    customer = await counter.customer_in("KWD")
    body = {"wallet": customer.wallet, "amount": "20", "currency": "KWD", "bank_transfer": True}
    assert await counter.seller.refused("/v1/top-ups", body) == (422, "top_up_currency_unsupported")


async def test_the_same_request_goes_on_where_stripe_failed_it(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await counter.top_up(customer)  # so that the customer is known
    faults = (Fault.BUSY, Fault.IN_USE, Fault.SILENT, Fault.BROKEN)
    fake.fail_next(*faults)
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD"}
    for _ in faults:
        again = await counter.seller.refused("/v1/top-ups", body, **{"idempotency-key": "once"})
        assert again == (503, "payments_unavailable")
    made = await counter.top_up(customer, key="once")
    assert len(fake.account.listed("checkout.session", client_reference_id=made["id"])) == 1
    pay(fake, made)
    await counter.look_later()
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_a_checkout_that_nobody_came_back_for_is_opened_and_ended_by_the_worker(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await counter.top_up(customer)
    fake.fail_next(Fault.SILENT)
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD"}
    await counter.seller.refused("/v1/top-ups", body)
    await counter.look_later()
    assert await counter.count("SELECT count(*) FROM top_ups WHERE state = 'open'") == 2
    assert len(fake.account.listed("checkout.session")) == 2


async def test_without_a_stripe_account_payments_say_what_is_missing(parts: Parts) -> None:
    transport = httpx2.ASGITransport(app=compose(replace(parts, stripe=None)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        seller = Seller(http)
        customer = await seller.customer(credit=None)
        body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD"}
        answer = await seller.ask("POST", "/v1/top-ups", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "payments_not_configured")
    assert "HEADRACE_BILLING_STRIPE_API_KEY" in answer.json()["detail"]
