"""Tax by Stripe Tax: reckoned before an invoice is issued or not at all, and told to Stripe after, once."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_billing.database import Database
from headrace_billing.parts import Parts
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.tax_adapter import StripeTax, tax_adapter
from headrace_billing.payments.tax_filing import file_due
from headrace_billing.settings import WorkerSettings
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.invoicing.test_settlement import WHY
from tests.billing.payments.counter import Counter
from tests.billing.payments.test_killed_jobs import Killer
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Customer, Document, Seller
from tests.support.stripe.account import Object
from tests.support.stripe.server import FakeStripe, Fault

NEW_YORK = {"street": "5 Mill Street", "city": "New York", "post_code": "10001"}


@pytest.fixture
def parts(parts: Parts, stripe: Stripe, fake: FakeStripe) -> Parts:
    return replace(parts, tax=StripeTax(stripe))


@pytest.fixture
def killer(counter: Counter, fake: FakeStripe, database_url: str, valkey_url: str) -> Killer:
    return Killer(counter, fake, database_url, valkey_url)


@pytest.fixture
async def customer(counter: Counter, database: Database) -> Customer:
    """Who has used nine dollars' worth, and pays afterwards."""
    customer = await counter.seller.customer(credit=None, disposition="payg")
    gateway = Gateway(customer, await counter.seller.publish_prices())
    event = gateway.event(tokens=TokenCounts(output_visible=100_000), disposition=Disposition.PAYG)
    await take(database, event)
    await tell(database, yielded(event))
    counter.clock.passes(hours=1)
    return customer


async def settle(seller: Seller, customer: Customer, country: str, **profile: Any) -> None:
    path = f"/v1/organizations/{customer.org}/billing-profile"
    answer = await seller.ask("PUT", path, {"legal_name": "M", "country": country, **profile})
    assert answer.is_success, answer.text


async def closed(seller: Seller, customer: Customer, country: str, **profile: Any) -> Document:
    await settle(seller, customer, country, **profile)
    return await seller.post("/v1/periods/close", {"organization": customer.org})


async def work(counter: Counter) -> int:
    """What the worker does, once over."""
    return await file_due(counter.till.database, counter.till.stripe, now=counter.clock())


def told(fake: FakeStripe) -> list[tuple[str, str, int, int]]:
    """Of each tax transaction its kind, reference, amount and tax; the oldest first."""
    found: list[Object] = fake.account.listed("tax.transaction")
    return [
        (one["type"], one["reference"], line["amount"], line["amount_tax"])
        for one in reversed(found)
        for line in one["line_items"]["data"]
    ]


@pytest.mark.parametrize(
    ("country", "profile", "tax", "due"),
    [
        ("DE", {}, ("standard", "VAT", "19", "DE", "9.00", "1.71", False), "10.71"),
        ("DE", {"vat_id": "DE136695976"}, ("reverse_charge", "VAT", "0", "DE", "9.00", "0.00", False), "9.00"),
        ("DE", {"tax_exempt": True}, ("exempt", "VAT", "0", "DE", "9.00", "0.00", False), "9.00"),
        ("US", {"e_invoice": NEW_YORK}, ("standard", "Sales tax", "8.875", "US", "9.00", "0.80", False), "9.80"),
        ("DE", {"prices_include_tax": True}, ("standard", "VAT", "19", "DE", "7.56", "1.44", True), "9.00"),
        ("JP", {}, ("untaxed", "VAT", "0", "JP", "9.00", "0.00", False), "9.00"),
    ],
)  # fmt: skip
async def test_stripe_reckons_the_tax_of_an_invoice(
    *, seller: Seller, customer: Customer, country: str, profile: Document, tax: tuple[Any, ...], due: str
) -> None:
    invoice = await closed(seller, customer, country, **profile)
    names = ("treatment", "name", "percent", "country", "taxable", "amount", "included")
    assert tuple(invoice["tax"][name] for name in names) == tax
    assert invoice["tax"]["calculation"].startswith("taxcalc_")
    assert invoice["amount_due"] == due


@pytest.mark.parametrize(
    ("country", "profile", "said"),
    [
        ("US", {}, "street, city and post_code"),
        ("", {}, "Set country"),
        ("KP", {}, "does not support KP"),
        ("AR", {"vat_id": "20-05536168-2"}, "take it off"),
    ],
)
async def test_what_stripe_can_not_tell_is_refused_until_somebody_has_set_it(
    seller: Seller, customer: Customer, country: str, profile: Document, said: str
) -> None:
    await settle(seller, customer, country, **profile)
    answer = await seller.ask("POST", "/v1/periods/close", {"organization": customer.org})
    assert (answer.status_code, answer.json()["code"]) == (409, "tax_refused")
    assert said in answer.json()["detail"]
    assert (await seller.get("/v1/invoices"))["items"] == []
    invoice = await closed(seller, customer, "DE")
    assert invoice["number"].endswith("-000001")


async def test_a_stripe_that_does_not_answer_issues_nothing(
    seller: Seller, customer: Customer, fake: FakeStripe
) -> None:
    await settle(seller, customer, "DE")
    fake.fail_next(Fault.BROKEN)
    close = {"organization": customer.org}
    assert await seller.refused("/v1/periods/close", close) == (503, "tax_unavailable")
    assert (await seller.get("/v1/invoices"))["items"] == []
    assert (await seller.post("/v1/periods/close", close))["amount_due"] == "10.71"


async def test_a_final_invoice_and_what_is_credited_of_it_are_told_once_to_the_cent(
    counter: Counter, customer: Customer, fake: FakeStripe
) -> None:
    invoice = await closed(counter.seller, customer, "DE")
    assert told(fake) == []
    part = {**WHY, "lines": [{"position": 1, "amount": "3.33"}]}
    first = await counter.seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", part)
    counter.clock.passes(minutes=1)
    second = await counter.seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", WHY)
    for _ in range(3):
        await work(counter)
        counter.clock.passes(minutes=2)
    assert told(fake) == [
        ("transaction", invoice["id"], 900, 171),
        ("reversal", first["id"], -333, -63),
        ("reversal", second["id"], -567, -108),
    ]
    assert await work(counter) == 0


async def test_an_answer_that_never_came_is_asked_for_again_and_nothing_is_told_twice(
    counter: Counter, customer: Customer, fake: FakeStripe
) -> None:
    invoice = await closed(counter.seller, customer, "DE")
    counter.clock.passes(hours=3)
    (waiting,) = (await counter.seller.post("/v1/reconciliation/looks"))["stages"][-1]["culprits"]
    assert (waiting["id"], waiting["status"]) == (invoice["id"], "pending")
    fake.fail_next(Fault.SILENT, Fault.BUSY)
    for _ in range(3):
        await work(counter)
        counter.clock.passes(hours=1)
    assert told(fake) == [("transaction", invoice["id"], 900, 171)]


async def test_a_calculation_that_has_expired_is_refused_and_so_is_what_would_reverse_it(
    counter: Counter, customer: Customer, fake: FakeStripe
) -> None:
    invoice = await closed(counter.seller, customer, "DE")
    counter.clock.passes(days=91)
    await work(counter)
    await counter.seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", WHY)
    await work(counter)
    assert told(fake) == []
    count = "SELECT count(*) FROM tax_filings WHERE state = 'refused' AND reason = '{}'"
    assert await counter.count(count.format("tax_calculation_expired")) == 1
    assert await counter.count(count.format("sale_not_filed")) == 1
    looked = await counter.seller.post("/v1/reconciliation/looks")
    assert looked["status"] == "red"
    culprits = looked["stages"][-1]["culprits"]
    assert {one["reason"] for one in culprits} == {"tax_not_told"}
    by_two = {"kind": "tax_not_told", "reason": "told by hand", "declared_by": "Ada", "confirmed_by": "Grace"}
    for one in culprits:
        await counter.seller.post("/v1/reconciliation/settlements", {**by_two, "id": one["id"]})
    assert (await counter.seller.get("/v1/reconciliation/stages"))["stages"][-1]["status"] == "green"


async def test_a_worker_killed_between_the_invoice_and_stripe_tells_it_once(
    *, counter: Counter, seller: Seller, customer: Customer, fake: FakeStripe, killer: Killer
) -> None:
    invoice = await closed(seller, customer, "DE")
    note = await seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    await killer.until_done("taxes")
    assert told(fake) == [
        ("transaction", invoice["id"], 900, 171),
        ("reversal", note["id"], -900, -171),
    ]
    assert await counter.count("SELECT count(*) FROM tax_filings WHERE state = 'filed'") == 2


def test_stripe_tax_needs_a_stripe_account() -> None:
    known = {"database_url": "postgresql://x", "valkey_url": "redis://x", "signing_key": "00" * 32}
    with pytest.raises(ValidationError, match="tax_adapter is stripe, which needs stripe_api_key"):
        WorkerSettings.model_validate({**known, "tax_adapter": "stripe"})


def test_the_setting_names_stripe_tax(stripe: Stripe) -> None:
    assert isinstance(tax_adapter("stripe", stripe), StripeTax)
