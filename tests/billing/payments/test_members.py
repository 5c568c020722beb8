"""A customer's own people before the till: they pay and look by their roles, and for their own organisation only."""

from dataclasses import replace

import pytest

from headrace_billing.members.permission import Role
from headrace_billing.payments import jobs
from tests.billing.members.team import joined
from tests.billing.payments.counter import Counter
from tests.billing.payments.page import pay
from tests.billing.seller import Customer, Document
from tests.support.stripe.server import FakeStripe

PAYERS = (Role.OWNER, Role.ADMIN, Role.FINANCE)


@pytest.mark.parametrize("role", PAYERS)
async def test_whoever_may_pay_tops_up_and_sees_what_became_of_it(
    counter: Counter, fake: FakeStripe, customer: Customer, role: Role
) -> None:
    member = await joined(counter.seller, role, org=customer.org)
    own = replace(counter, seller=member)
    made = await own.top_up(customer)
    pay(fake, made)
    await counter.look_later()
    assert (await own.shown(made))["state"] == "paid"
    listed = await member.get(f"/v1/top-ups?organization={customer.org}")
    assert [each["id"] for each in listed["items"]] == [made["id"]]
    assert (await member.get(f"/v1/top-ups/{made['id']}/refunds"))["items"] == []
    assert await counter.seller.balance(customer.wallet) == "20.00"
    refund = await member.refused(f"/v1/top-ups/{made['id']}/refunds", {})
    assert refund == (403, "forbidden"), "money back is the seller's to give"


async def test_an_invoice_is_paid_by_finance_with_a_card_that_it_keeps(
    counter: Counter, customer: Customer, invoice: Document
) -> None:
    member = await joined(counter.seller, Role.FINANCE, org=customer.org)
    own = replace(counter, seller=member)
    await own.keep_card(customer)
    (card,) = (await member.get(f"/v1/cards?organization={customer.org}"))["items"]
    paid = await member.post(f"/v1/invoices/{invoice['id']}/pay", {"card": card["id"]})
    assert paid["state"] == "paid"
    await jobs.look_at_top_ups(counter.till, now=counter.clock())
    shown = await member.get(f"/v1/invoices/{invoice['id']}/settlements")
    assert (shown["standing"]["status"], [one["kind"] for one in shown["items"]]) == ("paid", ["payment"])
    log = (await member.get("/v1/audit-log"))["items"]
    me = (await member.get("/v1/me"))["id"]
    assert ("pay_invoice", me) in {(entry["operation"], entry["actor"]["id"]) for entry in log}


async def test_a_credit_note_is_read_by_whom_it_is_for(
    counter: Counter, customer: Customer, invoice: Document
) -> None:
    note = await counter.seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", {"reason": "sorry"})
    finance = await joined(counter.seller, Role.FINANCE, org=customer.org)
    assert await finance.get(f"/v1/credit-notes/{note['id']}") == note
    developer = await joined(counter.seller, Role.DEVELOPER, org=customer.org)
    path = f"/v1/credit-notes/{note['id']}"
    assert await developer.refused(path, None, method="GET") == (403, "role_missing")
    other = await counter.seller.customer(credit=None)
    stranger = await joined(counter.seller, Role.FINANCE, org=other.org)
    for each in (path, f"{path}.pdf"):
        assert await stranger.refused(each, None, method="GET") == (404, "not_found")


@pytest.mark.parametrize("role", [Role.READ_ONLY, Role.DEVELOPER])
async def test_who_reads_or_develops_pays_nothing(
    counter: Counter, customer: Customer, invoice: Document, role: Role
) -> None:
    member = await joined(counter.seller, role, org=customer.org)
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD"}
    assert await member.refused("/v1/top-ups", body) == (403, "role_missing")
    assert await member.refused(f"/v1/invoices/{invoice['id']}/pay", {}) == (403, "role_missing")
    assert await member.refused("/v1/cards", {"organization": customer.org}) == (403, "role_missing")


async def test_two_organisations_may_use_the_same_idempotency_key(
    counter: Counter, customer: Customer
) -> None:
    other = await counter.seller.customer(credit=None)
    made = []
    for each in (customer, other):
        member = await joined(counter.seller, Role.FINANCE, org=each.org)
        made.append(await replace(counter, seller=member).top_up(each, key="march"))
    assert [each["organization"] for each in made] == [customer.org, other.org]


async def test_nobody_fills_another_organisation_s_wallet_or_uses_its_cards(
    counter: Counter, customer: Customer
) -> None:
    other = await counter.seller.customer(credit=None)
    card = await counter.save_card(other)
    member = await joined(counter.seller, Role.OWNER, org=customer.org)
    body = {"wallet": other.wallet, "amount": "20.00", "currency": "USD"}
    assert await member.refused("/v1/top-ups", body) == (404, "not_found")
    with_card = {**body, "wallet": customer.wallet, "card": card}
    assert await member.refused("/v1/top-ups", with_card) == (404, "not_found")
    path = f"/v1/cards/{card}?organization={customer.org}"
    assert await member.refused(path, None, method="DELETE") == (404, "not_found")
