"""Charges for a time: once in the books, once on an invoice, and revenue by the second."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from headrace_billing.charges.charge import ChargeKind, Recognition
from headrace_billing.charges.recognising import recognise_over
from headrace_billing.errors import IdempotencyConflict
from headrace_billing.invoicing.pdf import print_pdf
from headrace_billing.ledger.transaction import AccountKind
from tests.billing.charges.books import DECEMBER, JANUARY, charge, put
from tests.billing.invoicing.abroad import invoice_abroad
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document

G = 10**9
WHY = {"reason": "agreed"}


async def green(shop: Shop) -> None:
    report = await shop.seller.get(f"/v1/reconciliation?organization={shop.customer.org}")
    assert report["status"] == "green", report["reasons"]
    balance = await shop.seller.get("/v1/ledger/trial-balance")
    assert (balance["projections_off"], {one["sum"] for one in balance["currencies"]}) == ([], {"0.00"})


def charged(invoice: Document) -> list[tuple[str, str]]:
    return [(line["description"], line["amount"]) for line in invoice["lines"] if line["kind"] == "charge"]


async def test_a_charge_is_a_line_of_the_next_invoice_and_of_no_other(shop: Shop) -> None:
    await shop.sell()
    await put(shop, charge(shop, unit_price=Decimal("31.00")))
    await green(shop)
    shop.clock.passes(minutes=1)
    first = await shop.close()
    assert charged(first) == [("Coding plan lite", "31.00")]
    (line,) = (line for line in first["lines"] if line["kind"] == "charge")
    assert (line["unit"], line["unit_price"], line["charge"]["kind"]) == ("month", "31", "plan")
    assert line["period"] == {"start": DECEMBER.isoformat(), "end": JANUARY.isoformat()}
    assert print_pdf(first).startswith(b"%PDF")
    await green(shop)
    await shop.sell()
    shop.clock.passes(minutes=1)
    assert charged(await shop.close()) == []


async def test_a_customer_with_nothing_but_charges_is_in_the_run(shop: Shop) -> None:
    await put(shop, charge(shop))
    shop.clock.passes(hours=80)
    end = shop.clock.now - timedelta(hours=73)
    run = await shop.seller.post("/v1/invoice-runs", {"end": end.isoformat()})
    assert run["drafts"] == 1


async def test_one_reference_is_charged_once_and_only_as_it_was(shop: Shop) -> None:
    fee = charge(shop)
    (first,) = await put(shop, fee)
    assert await put(shop, replace(fee, id="chg_again")) == [first]
    assert await shop.nanos(AccountKind.UNBILLED) == 31 * G
    with pytest.raises(IdempotencyConflict):
        await put(shop, replace(fee, id="chg_other", amount_nanos=32 * G))
    assert await shop.nanos(AccountKind.UNBILLED) == 31 * G


async def test_a_credit_waits_until_there_is_something_to_set_it_against(shop: Shop) -> None:
    credit = charge(
        shop,
        reference="slo november",
        kind=ChargeKind.SERVICE_CREDIT,
        recognition=Recognition.AT_ONCE,
        label="Service credit",
        amount_nanos=-5 * G,
    )
    await put(shop, credit)
    shop.clock.passes(minutes=1)
    assert await shop.refused_to_close() == (409, "nothing_to_invoice")
    await put(shop, charge(shop))
    shop.clock.passes(minutes=1)
    invoice = await shop.close()
    assert (charged(invoice), invoice["total"]) == (
        [("Service credit", "-5.00"), ("Coding plan lite", "31.00")],
        "26.00",
    )
    await green(shop)


async def test_revenue_is_recognised_after_each_month_and_before_its_close(shop: Shop) -> None:
    year = charge(
        shop, span=replace(charge(shop).span, end=datetime(2027, 12, 1, tzinfo=UTC)), amount_nanos=365 * G
    )
    await put(shop, year)
    assert await shop.nanos(AccountKind.DEFERRED) == -365 * G
    shop.clock.now = JANUARY + timedelta(days=3)
    while await recognise_over(shop.database, now=shop.clock.now):
        pass
    assert await shop.nanos(AccountKind.REVENUE_SUBSCRIPTIONS) == -31 * G
    shop.clock.now = datetime(2027, 2, 2, tzinfo=UTC)
    for month in ("2026-11", "2026-12", "2027-01"):
        await shop.seller.post(
            f"/v1/accounting-months/{month}/close", {"requested_by": "Ada", "approved_by": "Grace"}
        )
    rows = (await shop.seller.get("/v1/revenue/schedule?start=2026-12&end=2027-01&currency=USD"))["items"]
    assert [row["recognised"]["revenue_subscriptions"] for row in rows] == ["31.00", "31.00"]
    assert rows[-1]["balances"]["deferred"]["closing"] == "303.00"
    await green(shop)


async def test_a_voided_fee_is_revenue_of_nobody(shop: Shop) -> None:
    await put(shop, charge(shop))
    shop.clock.passes(minutes=1)
    invoice = await shop.close()
    shop.clock.now = JANUARY + timedelta(days=1)
    await recognise_over(shop.database, now=shop.clock.now)
    await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    shop.clock.now = JANUARY + timedelta(days=40)
    await recognise_over(shop.database, now=shop.clock.now)
    assert await shop.nanos(AccountKind.DEFERRED) == 0
    assert await shop.nanos(AccountKind.REVENUE_SUBSCRIPTIONS) == 0
    await green(shop)


async def test_tax_that_the_price_holds_is_never_revenue(shop: Shop) -> None:
    await put(shop, charge(shop, amount_nanos=119 * G))
    invoice = await invoice_abroad(shop, "USD", prices_include_tax=True)
    assert invoice["tax"]["amount"] != "0.00"
    shop.clock.now = JANUARY + timedelta(days=1)
    await recognise_over(shop.database, now=shop.clock.now)
    assert await shop.nanos(AccountKind.DEFERRED) == 0
    assert await shop.nanos(AccountKind.REVENUE_SUBSCRIPTIONS) == -100 * G
    await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    assert await shop.nanos(AccountKind.TAX_PAYABLE) == 0
    shop.clock.now = JANUARY + timedelta(days=40)
    await recognise_over(shop.database, now=shop.clock.now)
    assert await shop.nanos(AccountKind.REVENUE_SUBSCRIPTIONS) == 0


async def test_the_database_keeps_charges_as_they_are(shop: Shop) -> None:
    await put(shop, charge(shop))
    with pytest.raises(Exception, match="append-only"):
        async with shop.database.begin() as session:
            await session.execute(text("UPDATE charges SET amount_nanos = 1"))
