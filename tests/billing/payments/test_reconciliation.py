"""Our books against Stripe's: green when every balance transaction is in both, red with the one that is not."""

from typing import Any

import pytest
from sqlalchemy import text

from headrace_billing.payments.access import PaymentsUnavailable
from headrace_billing.payments.reconciling import reconcile_payments
from tests.billing.payments.counter import Counter
from tests.billing.seller import Customer, Document, Seller
from tests.support.stripe import world
from tests.support.stripe.server import FakeStripe, Fault


async def compared(counter: Counter) -> Document:
    await reconcile_payments(counter.till, now=counter.clock())
    return await counter.seller.get("/v1/reconciliation/payments")


async def checkout_paid(counter: Counter, fake: FakeStripe, customer: Customer, **otherwise: Any) -> Document:
    made = await counter.top_up(customer)
    (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
    world.pay(fake.account, session["id"], **otherwise)
    await counter.look_later()
    return await counter.shown(made)


async def test_everything_that_payments_do_is_in_both_books(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await checkout_paid(counter, fake, customer)
    refunded, disputed, lost = [await counter.paid(customer) for _ in range(3)]
    await counter.seller.post(f"/v1/top-ups/{refunded['id']}/refunds", {"amount": "5.00"})
    won = world.dispute(fake.account, disputed["payment"])
    world.dispute(fake.account, lost["payment"])
    world.close_dispute(fake.account, won["id"], won=True)
    await counter.deliver(fake)
    await counter.work()
    fake.account.settle(-3000, "usd", source="po_1", kind="payout")
    counter.clock.passes(hours=3)
    seen = await compared(counter)
    assert (seen["status"], seen["matched"], seen["differences"]) == ("green", 8, [])
    assert seen["others"] == [{"kind": "payout", "currency": "USD", "amount": "-30.00"}]
    (check,) = seen["checks"]
    assert check["holds"]
    assert check["right"] == "36480000000"
    assert seen["as_of"] == counter.clock().isoformat()


async def test_what_was_converted_and_what_has_no_fee_yet_add_up_too(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await counter.paid(customer)
    fake.account.settles_in = "eur"
    await counter.paid(customer)
    fake.account.fees_come_late = True
    await counter.paid(customer)
    counter.clock.passes(hours=3)
    seen = await compared(counter)
    assert seen["status"] == "green"
    assert [check["currency"] for check in seen["checks"]] == ["EUR", "USD"]


async def test_a_payment_in_doubt_is_red_for_its_customer_alone_until_it_is_paid_back(
    counter: Counter, fake: FakeStripe, seller: Seller, customer: Customer
) -> None:
    made = await checkout_paid(counter, fake, customer, amount_total=1999)
    assert made["state"] == "quarantined"
    seen = await compared(counter)
    assert (seen["status"], seen["pending"]) == ("pending", 1)
    counter.clock.passes(hours=3)
    seen = await compared(counter)
    assert seen["status"] == "red"
    (difference,) = seen["differences"]
    assert (difference["reason"], difference["amount"]) == ("unbooked", "20.00")
    assert (difference["organization"], difference["payment"]) == (customer.org, made["payment"])

    other = await seller.customer(credit=None)
    for org, status in ((customer.org, "red"), (other.org, "green")):
        report = await seller.get(f"/v1/reconciliation?organization={org}")
        assert report["status"] == status
    close = {"organization": customer.org, "currency": "USD"}
    assert await seller.refused("/v1/periods/close", close) == (409, "reconciliation_red")

    # Somebody pays it back at Stripe, days later.
    counter.clock.passes(days=9)
    fake.account.create_refund({"payment_intent": made["payment"]})
    counter.clock.passes(hours=3)
    seen = await compared(counter)
    assert (seen["status"], seen["returned"], seen["differences"]) == ("green", 2, [])
    assert (await seller.get(f"/v1/reconciliation?organization={customer.org}"))["status"] == "green"


async def test_money_at_stripe_that_nobody_can_tell_whose_it_is_blocks_nobody(
    counter: Counter, fake: FakeStripe, seller: Seller, customer: Customer
) -> None:
    fake.account.charge(fake.account.intent(700, "usd", {}), None)
    counter.clock.passes(hours=3)
    seen = await compared(counter)
    assert [one["organization"] for one in seen["differences"]] == [None]
    assert (await seller.get(f"/v1/reconciliation?organization={customer.org}"))["status"] == "green"
    assert (await seller.get("/v1/reconciliation"))["status"] == "red"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": 1900}, "amount_differs"),
        ({"fee": 89}, "amount_differs"),
        ({"id": "txn_another"}, "unknown_to_stripe"),
    ],
)
async def test_books_that_say_something_else_than_stripe_s_are_red(
    counter: Counter, fake: FakeStripe, customer: Customer, change: Document, reason: str
) -> None:
    await counter.paid(customer)
    (booked,) = fake.account.listed("balance_transaction")
    del fake.account.objects[booked["id"]]
    changed = booked | change
    fake.account.objects[changed["id"]] = changed
    counter.clock.passes(hours=3)
    seen = await compared(counter)
    assert seen["status"] == "red"
    assert reason in {one["reason"] for one in seen["differences"]}


async def test_a_ledger_that_was_posted_to_past_payments_is_red(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await counter.paid(customer)
    async with counter.till.database.begin() as session:
        await session.execute(
            text("""
                WITH t AS (INSERT INTO ledger_transactions (key, payload_hash, kind, currency, occurred_at)
                           VALUES ('astray', sha256('x'), 'psp_fee', 'USD', now()) RETURNING id)
                INSERT INTO ledger_postings (transaction_id, kind, owner, currency, amount_nanos)
                SELECT t.id, a.kind, 'business', 'USD', a.nanos
                FROM t, (VALUES ('psp_fees', 10000000), ('cash_clearing', -10000000)) AS a (kind, nanos)
            """)
        )
    seen = await compared(counter)
    assert (seen["status"], seen["differences"]) == ("red", [])
    assert [check["holds"] for check in seen["checks"]] == [False]


async def test_a_stripe_that_does_not_answer_leaves_the_comparison_before(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    assert await counter.seller.refused("/v1/reconciliation/payments", None, method="GET") == (
        404,
        "never_reconciled",
    )
    before = await compared(counter)
    await counter.paid(customer)
    counter.clock.passes(hours=1)
    fake.fail_next(Fault.BUSY)
    with pytest.raises(PaymentsUnavailable):
        await compared(counter)
    assert await counter.seller.get("/v1/reconciliation/payments") == before


async def stage(counter: Counter, *, look: bool = True) -> Document:
    """Stripe's, after a look at all of them."""
    answer = await (
        counter.seller.post("/v1/reconciliation/looks")
        if look
        else counter.seller.get("/v1/reconciliation/stages")
    )
    found: Document = answer["stages"][-1]
    assert found["stage"] == "invoices = Stripe"
    assert (answer["status"] == "red") == ("red" in {one["status"] for one in answer["stages"]})
    return found


async def test_a_look_compares_with_stripe_and_is_the_last_stage_with_its_own_time(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await counter.paid(customer)
    counter.clock.passes(hours=3)
    green = await stage(counter)
    assert (green["status"], green["as_of"], green["culprits"]) == ("green", counter.clock().isoformat(), [])
    assert [(one["left"], one["right"]) for one in green["sides"]] == [
        ("1", "1"),
        ("19120000000", "19120000000"),
    ]

    # Stripe does not answer: what it said an hour ago stands, and says so.
    counter.clock.passes(hours=1)
    fake.fail_next(Fault.BUSY)
    assert await stage(counter) == green


async def test_a_payment_that_differs_is_red_in_the_stage_of_stripe_and_in_no_other(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await checkout_paid(counter, fake, customer, amount_total=1999)
    assert (await stage(counter))["status"] == "pending"
    counter.clock.passes(hours=3)
    red = await stage(counter)
    assert (red["status"], red["culprits_count"]) == ("red", 1)
    (booked,) = fake.account.listed("balance_transaction")
    assert (red["culprits"][0]["id"], red["culprits"][0]["reason"]) == (booked["id"], "payment_differs")
    others = (await counter.seller.get("/v1/reconciliation/stages"))["stages"][:-1]
    assert {one["status"] for one in others} == {"green"}
    fake.account.create_refund({"payment_intent": made["payment"]})
    assert (await stage(counter))["status"] == "green"


async def test_a_stripe_that_was_never_asked_is_pending(counter: Counter, fake: FakeStripe) -> None:
    fake.fail_next(Fault.BUSY)
    seen = await stage(counter)
    assert (seen["status"], seen["as_of"], seen["sides"]) == ("pending", None, [])
