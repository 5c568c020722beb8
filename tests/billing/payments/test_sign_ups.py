"""Signing up on Stripe's page: the plan begins once it is paid, once, and the payment pays its first invoice."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.members.permission import Role
from headrace_billing.payments.collecting import dun
from headrace_billing.plans.jobs import pass_time
from headrace_billing.plans.sign_up_jobs import settle_sign_ups
from headrace_contracts import channels
from headrace_contracts.access import decode_project
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.members.team import joined
from tests.billing.payments.counter import Counter
from tests.billing.payments.page import pay
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Customer, Document
from tests.support.stripe import world
from tests.support.stripe.cards import VISA
from tests.support.stripe.server import FakeStripe

WEEK = {"seconds": 7 * 86400, "shape": "fixed", "unit": "requests"}


def plan(**fields: Any) -> Document:
    return {
        "code": "lite",
        "version": 1,
        "name": "Lite",
        "currency": "USD",
        "interval": "month",
        "price": "18.00",
        "entitlements": {"limits": [{"kind": "window", "ceiling": 100, "window": WEEK}]},
        **fields,
    }


async def sign_up(counter: Counter, customer: Customer, **fields: Any) -> Document:
    await counter.seller.post("/v1/plans", plan())
    body = {"organization": customer.org, "plan": "plan_lite_1", **fields}
    return await counter.seller.post("/v1/sign-ups", body)


def as_top_up(made: Document) -> Document:
    """As the tests of Stripe's page know payments."""
    return {"id": made["payment"], "url": made["url"]}


async def settle(counter: Counter, *, seconds: int = 1) -> None:
    counter.clock.passes(seconds=seconds)
    await settle_sign_ups(Books(counter.till.database, TaxTable()), now=counter.clock())


async def shown(counter: Counter, made: Document) -> Document:
    return await counter.seller.get(f"/v1/sign-ups/{made['id']}")


async def disposition(valkey: Redis, customer: Customer) -> Disposition:
    raw = await valkey.hget(channels.project(customer.project), "r")
    assert isinstance(raw, bytes)
    return decode_project(raw).disposition


async def test_a_sign_up_that_is_paid_begins_the_plan_and_pays_its_first_invoice(
    counter: Counter, fake: FakeStripe, customer: Customer, valkey: Redis
) -> None:
    made = await sign_up(counter, customer)
    assert (made["state"], made["amount"], made["subscription"]) == ("open", "18.00", None)
    assert await counter.balances() == {}
    pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.work()
    begun = await shown(counter, made)
    assert begun["state"] == "paid"
    assert await disposition(valkey, customer) is Disposition.PLAN_WINDOW
    await settle(counter)
    done = await shown(counter, made)
    invoice = await counter.seller.get(f"/v1/invoices/{done['invoice']}")
    assert (invoice["total"], invoice["standing"]["status"]) == ("18.00", "paid")
    balances = await counter.balances()
    assert (
        balances["deferred USD"],
        balances.get("receivable USD"),
        balances.get("refund_liability USD"),
    ) == (
        -1800,
        None,
        None,
    )
    assert (await counter.shown(as_top_up(made)))["invoice"] == done["invoice"]
    await settle(counter)
    assert await counter.count("SELECT count(*) FROM invoice_settlements") == 1


async def test_an_abandoned_sign_up_leaves_nothing(
    counter: Counter, fake: FakeStripe, customer: Customer, valkey: Redis
) -> None:
    made = await sign_up(counter, customer)
    counter.clock.passes(hours=2)
    fake.account.pass_time()
    await counter.work()
    ended = await shown(counter, made)
    assert (ended["state"], ended["subscription"], ended["url"]) == ("expired", None, None)
    assert await counter.balances() == {}
    assert await counter.count("SELECT count(*) FROM subscriptions") == 0
    assert await disposition(valkey, customer) is Disposition.PREPAID
    again = await sign_up(counter, customer)
    cancelled = await counter.seller.post(f"/v1/sign-ups/{again['id']}/cancel")
    assert cancelled["state"] == "expired"


async def test_many_workers_and_repeated_webhooks_begin_one_subscription(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await sign_up(counter, customer)
    pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.deliver(fake)
    await asyncio.gather(*(counter.work() for _ in range(4)))
    await asyncio.gather(*(settle(counter) for _ in range(3)))
    assert await counter.count("SELECT count(*) FROM subscriptions") == 1
    assert await counter.count("SELECT count(*) FROM charges") == 1
    assert await counter.count("SELECT count(*) FROM invoices") == 1
    assert (await shown(counter, made))["state"] == "settled"


async def test_the_same_request_sent_again_is_the_same_sign_up(counter: Counter, customer: Customer) -> None:
    await counter.seller.post("/v1/plans", plan())
    body = {"organization": customer.org, "plan": "plan_lite_1"}
    headers = {"idempotency-key": "once"}
    first = await counter.seller.ask("POST", "/v1/sign-ups", body, **headers)
    assert (await counter.seller.ask("POST", "/v1/sign-ups", body, **headers)).json() == first.json()


async def test_of_two_that_are_paid_for_the_same_plan_one_begins_and_the_other_is_owed_back(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    first, second = await sign_up(counter, customer), await sign_up(counter, customer)
    for made in (first, second):
        pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.work(times=2)
    await settle(counter)
    assert {(await shown(counter, made))["state"] for made in (first, second)} == {"settled", "refused"}
    assert (await counter.balances())["refund_liability USD"] == -1800
    assert "sign_up_refused" in await counter.notices()
    body = {"organization": customer.org, "plan": "plan_lite_1"}
    assert await counter.seller.refused("/v1/sign-ups", body) == (409, "subscription_exists")


async def test_the_first_invoice_waits_for_usage_that_is_not_reconciled(
    counter: Counter, fake: FakeStripe, customer: Customer, database: Database
) -> None:
    gateway = Gateway(customer, await counter.seller.publish_prices())
    counter.clock.passes(hours=1)
    event = gateway.event(
        tokens=TokenCounts(output_visible=100_000),
        disposition=Disposition.PAYG,
        received_at=counter.clock(),
    )
    await take(database, event)
    made = await sign_up(counter, customer)
    pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.work()
    await settle(counter)
    assert (await shown(counter, made))["state"] == "paid"
    await tell(database, yielded(event))
    await settle(counter, seconds=60)
    done = await shown(counter, made)
    standing = (await counter.seller.get(f"/v1/invoices/{done['invoice']}"))["standing"]
    assert (standing["paid"], standing["open"]) == ("18.00", "9.00")


async def test_tax_is_in_what_is_paid_and_on_the_invoice(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    rates = {"rates": [{"country": "DE", "name": "MwSt", "rate": "19"}]}
    assert (await counter.seller.ask("PUT", "/v1/sellers/default/tax-rates", rates)).is_success
    profile = {"legal_name": "Mühlgraben Analytik GmbH", "address": "Am Wehr 7", "country": "DE"}
    path = f"/v1/organizations/{customer.org}/billing-profile"
    assert (await counter.seller.ask("PUT", path, profile)).is_success
    made = await sign_up(counter, customer)
    assert (made["amount"], made["tax"]) == ("21.42", "3.42")
    pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.work()
    await settle(counter)
    done = await shown(counter, made)
    standing = (await counter.seller.get(f"/v1/invoices/{done['invoice']}"))["standing"]
    assert (standing["status"], standing["paid"]) == ("paid", "21.42")


async def test_renewals_are_paid_by_the_card_that_was_given(
    counter: Counter, fake: FakeStripe, customer: Customer, valkey: Redis
) -> None:
    made = await sign_up(counter, customer)
    pay(fake, as_top_up(made), card=VISA)
    await counter.deliver(fake)
    await counter.work()
    await settle(counter)
    counter.clock.passes(days=31)
    await pass_time(counter.till.database, valkey, now=counter.clock())
    counter.clock.passes(seconds=1)
    renewal = await counter.seller.post("/v1/periods/close", {"organization": customer.org})
    assert renewal["total"] == "18.00"
    counter.clock.now = datetime.fromisoformat(renewal["due_at"]).astimezone(UTC)
    await dun(counter.till, now=counter.clock())
    await counter.work()
    standing = (await counter.seller.get(f"/v1/invoices/{renewal['id']}"))["standing"]
    assert standing["status"] == "paid"


async def test_the_bank_takes_back_what_was_paid_and_the_first_invoice_is_due_again(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await sign_up(counter, customer)
    pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.work()
    await settle(counter)
    payment = await counter.shown(as_top_up(made))
    world.dispute(fake.account, payment["payment"])
    await counter.deliver(fake)
    await counter.work()
    done = await shown(counter, made)
    standing = (await counter.seller.get(f"/v1/invoices/{done['invoice']}"))["standing"]
    assert (standing["status"], standing["open"]) == ("open", "18.00")


async def test_a_customer_s_finance_signs_up_for_its_own_organisation_only(
    counter: Counter, customer: Customer
) -> None:
    await counter.seller.post("/v1/plans", plan())
    finance = await joined(counter.seller, Role.FINANCE, org=customer.org)
    other = await counter.seller.customer(credit=None)
    body = {"organization": customer.org, "plan": "plan_lite_1"}
    made = await finance.post("/v1/sign-ups", body)
    assert made["url"].startswith("https://checkout.stripe.com/")
    assert await finance.refused("/v1/sign-ups", {**body, "organization": other.org}) == (404, "not_found")
    assert await finance.refused("/v1/subscriptions", body) == (403, "forbidden")


async def test_a_trial_begins_with_a_card_and_is_paid_by_it_when_it_ends(
    counter: Counter, fake: FakeStripe, customer: Customer, valkey: Redis
) -> None:
    await counter.seller.post("/v1/plans", plan(code="try", trial_days=14))
    body = {"organization": customer.org, "plan": "plan_try_1"}
    made = await counter.seller.post("/v1/sign-ups", body)
    assert (made["state"], made["amount"]) == ("open", "0.00")
    pay(fake, as_top_up(made))
    await counter.deliver(fake)
    await counter.work()
    begun = await shown(counter, made)
    assert (begun["state"], begun["invoice"]) == ("settled", None)
    subscription = await counter.seller.get(f"/v1/subscriptions/{begun['subscription']}")
    assert subscription["state"] == "trialing"
    assert await counter.balances() == {}
    await counter.look_later()
    counter.clock.passes(days=14)
    await pass_time(counter.till.database, valkey, now=counter.clock())
    counter.clock.passes(seconds=1)
    invoice = await counter.seller.post("/v1/periods/close", {"organization": customer.org})
    counter.clock.now = datetime.fromisoformat(invoice["due_at"]).astimezone(UTC)
    await dun(counter.till, now=counter.clock())
    await counter.work()
    standing = (await counter.seller.get(f"/v1/invoices/{invoice['id']}"))["standing"]
    assert (standing["status"], standing["paid"]) == ("paid", "18.00")


async def test_a_trial_whose_page_is_left_does_not_begin(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await counter.seller.post("/v1/plans", plan(code="try", trial_days=14))
    body = {"organization": customer.org, "plan": "plan_try_1"}
    made = await counter.seller.post("/v1/sign-ups", body)
    counter.clock.passes(hours=2)
    fake.account.pass_time()
    await counter.work()
    assert (await shown(counter, made))["state"] == "expired"
    assert await counter.count("SELECT count(*) FROM subscriptions") == 0


async def test_a_currency_that_the_page_does_not_take_is_refused_before_it_is_opened(
    counter: Counter, customer: Customer
) -> None:
    await counter.seller.post("/v1/plans", plan(currency="SEK", entitlements={}))
    body = {"organization": customer.org, "plan": "plan_lite_1"}
    refusal = await counter.seller.refused("/v1/sign-ups", body)
    assert refusal == (422, "top_up_currency_unsupported")
    assert await counter.count("SELECT count(*) FROM sign_ups") == 0
