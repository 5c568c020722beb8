"""Closing periods on real books: what is used is invoiced once, exactly, without gaps, or not at all."""

import asyncio
import re
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from headrace_billing.invoicing.closing import close_period
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.orders import Order
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.ledger.transaction import AccountKind
from headrace_contracts.usage import Disposition, Ending, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.invoicing.shop import Shop
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Document, Seller

UNBILLED, APPLIED = AccountKind.UNBILLED, AccountKind.WALLET_APPLIED
RECEIVABLE, ROUNDING = AccountKind.RECEIVABLE, AccountKind.ROUNDING
MINUTE = timedelta(minutes=1)


def shape(invoice: Document) -> list[tuple[str, str, str]]:
    return [
        (line["kind"], line.get("token_class") or line["outcome_type"], line["amount"])
        for line in invoice["lines"]
    ]


async def test_what_was_prepaid_is_invoiced_and_leaves_nothing_due(shop: Shop) -> None:
    await shop.sell()
    await shop.sell()
    await shop.sell_outcome("a")
    await shop.sell_outcome("b")
    balance = await shop.balance()
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    assert shape(invoice) == [
        ("tokens", "input_uncached", "6.00"),
        ("tokens", "cache_read", "0.60"),
        ("tokens", "output", "3.60"),
        ("outcome", "arithmetic-answer@1", "0.50"),
    ]
    assert (invoice["total"], invoice["credit_applied"], invoice["amount_due"]) == ("10.70", "10.70", "0.00")
    for kind in (UNBILLED, APPLIED, RECEIVABLE, ROUNDING):
        assert await shop.nanos(kind) == 0
    assert await shop.balance() == balance
    assert any("2 confirmed" in note and "0 deemed" in note for note in invoice["notes"])
    assert any("2 requests with 340,000 tokens were made inside tasks" in note for note in invoice["notes"])


async def test_usage_paid_afterwards_is_due(shop: Shop) -> None:
    shop.customer = await shop.seller.customer(credit=None, disposition="payg")
    shop.gateway.customer = shop.customer
    await shop.sell(TokenCounts(output_visible=1234), disposition=Disposition.PAYG)
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    assert (invoice["total"], invoice["credit_applied"], invoice["amount_due"]) == ("0.11", "0.00", "0.11")
    assert invoice["exact"]["total"] == "0.11106"
    assert await shop.nanos(RECEIVABLE) == 110_000_000
    assert await shop.nanos(ROUNDING) == 1_060_000
    assert await shop.nanos(UNBILLED) == 0


async def test_the_invoice_of_a_second_period_holds_only_what_came_since(shop: Shop) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    first = await shop.close()
    await shop.sell(TokenCounts(output_visible=10_000))
    shop.clock.passes(hours=1)
    second = await shop.close()
    assert shape(second) == [("tokens", "output", "0.90")]
    assert second["period"]["start"] == first["period"]["end"]
    assert (first["number"], second["number"]) == ("HR-000001", "HR-000002")
    assert await shop.nanos(UNBILLED) == 0


async def test_the_end_of_a_period_belongs_to_the_next(shop: Shop) -> None:
    end = shop.clock.now + MINUTE
    await shop.sell(TokenCounts(output_visible=1000), at=end - timedelta(microseconds=1))
    await shop.sell(TokenCounts(output_visible=7000), at=end)
    shop.clock.passes(hours=1)
    first = await shop.close(end=end.isoformat())
    second = await shop.close()
    assert [line["quantity"] for line in first["lines"] + second["lines"]] == [1000, 7000]
    assert await shop.nanos(UNBILLED) == 0


async def test_what_comes_late_is_an_adjustment_that_names_its_period(shop: Shop) -> None:
    early = shop.clock.now + MINUTE
    await shop.sell(at=early)
    shop.clock.passes(hours=1)
    first = await shop.close()
    await shop.sell(TokenCounts(output_visible=10_000), at=early)
    shop.clock.passes(hours=1)
    second = await shop.close()
    assert shape(second) == [("adjustment", "output", "0.90")]
    assert second["lines"][0]["period"] == first["period"]
    assert await shop.nanos(UNBILLED) == 0


async def test_a_final_event_after_the_close_corrects_its_estimate_on_the_next_invoice(shop: Shop) -> None:
    received_at = shop.clock.now
    estimate = shop.gateway.estimate(
        "0190f000-0000-7000-8000-000000000001",
        tokens=TokenCounts(input_uncached=1000, output_visible=100_000),
        received_at=received_at,
    )
    await take(shop.database, estimate)
    await tell(shop.database, yielded(estimate, more_output=50_000))
    shop.clock.passes(hours=1)
    first = await shop.close()
    assert first["total"] == "9.03"
    final = shop.gateway.event(
        request=estimate.id,
        tokens=TokenCounts(input_uncached=1000, output_visible=120_000),
        received_at=received_at,
        ending=Ending.GATEWAY_LOST,
    )
    await take(shop.database, final)
    shop.clock.passes(hours=1)
    second = await shop.close()
    assert shape(second) == [("adjustment", "output", "1.80")]
    assert await shop.nanos(UNBILLED) == 0


async def test_a_period_without_any_charge_stays_open_and_takes_no_number(shop: Shop) -> None:
    shop.clock.passes(hours=1)
    assert await shop.refused_to_close() == (409, "nothing_to_invoice")
    await shop.sell(at=shop.clock.now - MINUTE)
    assert (await shop.close())["number"] == "HR-000001"


async def test_a_credit_balance_of_corrections_waits_for_usage(shop: Shop) -> None:
    received_at = shop.clock.now
    estimate = shop.gateway.estimate(
        "0190f000-0000-7000-8000-000000000001",
        tokens=TokenCounts(output_visible=100_000),
        received_at=received_at,
    )
    await take(shop.database, estimate)
    await tell(shop.database, yielded(estimate))
    shop.clock.passes(hours=1)
    await shop.close()
    final = shop.gateway.event(
        request=estimate.id,
        tokens=TokenCounts(output_visible=50_000),
        received_at=received_at,
        ending=Ending.CLIENT_GONE,
    )
    await take(shop.database, final)
    shop.clock.passes(hours=1)
    assert await shop.refused_to_close() == (409, "nothing_to_invoice")
    await shop.sell(TokenCounts(output_visible=70_000), at=shop.clock.now - MINUTE)
    invoice = await shop.close()
    assert shape(invoice) == [("tokens", "output", "6.30"), ("adjustment", "output", "-4.50")]
    assert invoice["total"] == "1.80"
    assert await shop.nanos(UNBILLED) == 0


async def test_a_red_reconciliation_blocks_and_names_the_culprit(shop: Shop) -> None:
    good = await shop.sell()
    bad = shop.gateway.event(received_at=shop.clock.now)
    await take(shop.database, bad)
    await tell(shop.database, yielded(bad, more_output=-1))
    shop.clock.passes(hours=1)
    answer = await shop.seller.ask("POST", "/v1/periods/close", {"organization": shop.customer.org})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "reconciliation_red")
    assert problem["reasons"] == [{"code": "overbilled", "count": 1}]
    assert [culprit["id"] for culprit in problem["unreconciled"]] == [bad.id]
    assert good.id not in answer.text
    assert await shop.nanos(RECEIVABLE) == 0


async def test_a_record_on_its_way_blocks_for_the_moment(shop: Shop) -> None:
    event = shop.gateway.event(received_at=shop.clock.now)
    await take(shop.database, event)
    shop.clock.passes(seconds=10)
    answer = await shop.seller.ask("POST", "/v1/periods/close", {"organization": shop.customer.org})
    assert (answer.status_code, answer.json()["code"]) == (409, "reconciliation_pending")
    assert answer.headers["retry-after"] == "5"
    await tell(shop.database, yielded(event))
    assert (await shop.close())["number"] == "HR-000001"


async def test_another_organisations_red_does_not_block(shop: Shop) -> None:
    await shop.sell()
    other = Gateway(await shop.seller.customer(), shop.gateway.price_book, boot="boot-2")
    bad = other.event(received_at=shop.clock.now)
    await take(shop.database, bad)
    await tell(shop.database, yielded(bad, more_output=-1))
    shop.clock.passes(hours=1)
    assert (await shop.close())["number"] == "HR-000001"


async def test_late_usage_is_reconciled_before_it_is_invoiced(shop: Shop) -> None:
    early = shop.clock.now + MINUTE
    await shop.sell(at=early)
    shop.clock.passes(hours=1)
    await shop.close()
    late = shop.gateway.event(received_at=early)
    await take(shop.database, late)
    shop.clock.passes(hours=1)
    assert await shop.refused_to_close() == (409, "reconciliation_red")


async def test_numbers_have_no_gap_whoever_closes_at_once(shop: Shop) -> None:
    shops = [shop]
    for number in range(5):
        customer = await shop.seller.customer()
        gateway = Gateway(customer, shop.gateway.price_book, boot=f"boot-{number + 2}")
        shops.append(
            Shop(
                seller=shop.seller,
                customer=customer,
                buyer=Seller(shop.seller.http, customer.secret),
                gateway=gateway,
                database=shop.database,
                parts=shop.parts,
                clock=shop.clock,
            )
        )
    for one in shops:
        await one.sell()
    shop.clock.passes(hours=1)
    # Each twice, and two who have nothing: a refusal must not use up a number.
    empty = await shop.seller.post("/v1/organizations", {"name": "Nobody"})
    bodies = [{"organization": one.customer.org} for one in shops * 2]
    bodies += [{"organization": empty["id"], "currency": "USD"}] * 2
    answers = await asyncio.gather(*(shop.seller.ask("POST", "/v1/periods/close", body) for body in bodies))
    issued = sorted(answer.json()["number"] for answer in answers if answer.is_success)
    assert issued == [f"HR-{n:06d}" for n in range(1, 7)], [a.text for a in answers if a.is_error]


async def test_a_close_that_fails_after_its_number_was_given_gives_it_to_the_next(shop: Shop) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    books = Books(shop.database, TaxTable())
    order = Order(shop.customer.org, "USD", None, None)
    for _ in range(2):
        async with shop.database.begin() as session:
            document = await close_period(session, books, order, now=shop.clock.now)
            await session.rollback()
        assert document["number"] == "HR-000001"
    assert (await shop.close())["number"] == "HR-000001"
    assert await shop.nanos(UNBILLED) == 0


async def test_what_is_paid_afterwards_waits_below_zero_although_prepaid_usage_is_more(shop: Shop) -> None:
    """Or the invoice would ask for less than nothing."""
    received_at = shop.clock.now
    estimate = shop.gateway.estimate(
        "0190f000-0000-7000-8000-000000000001",
        tokens=TokenCounts(output_visible=100_000),
        received_at=received_at,
        disposition=Disposition.PAYG,
    )
    await take(shop.database, estimate)
    await tell(shop.database, yielded(estimate))
    shop.clock.passes(hours=1)
    assert (await shop.close())["amount_due"] == "9.00"
    final = shop.gateway.event(
        request=estimate.id,
        tokens=TokenCounts(output_visible=50_000),
        received_at=received_at,
        ending=Ending.CLIENT_GONE,
        disposition=Disposition.PAYG,
    )
    await take(shop.database, final)
    shop.clock.passes(hours=1)
    await shop.sell(TokenCounts(output_visible=200_000), at=shop.clock.now - MINUTE)
    assert await shop.refused_to_close() == (409, "nothing_to_invoice")
    paid = TokenCounts(output_visible=60_000)
    await shop.sell(paid, at=shop.clock.now - MINUTE, disposition=Disposition.PAYG)
    invoice = await shop.close()
    assert (invoice["total"], invoice["credit_applied"], invoice["amount_due"]) == ("18.90", "18.00", "0.90")


async def test_a_retried_close_gets_the_same_invoice(shop: Shop) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    body, once = {"organization": shop.customer.org}, {"idempotency-key": "once"}
    first = await shop.seller.ask("POST", "/v1/periods/close", body, **once)
    again = await shop.seller.ask("POST", "/v1/periods/close", body, **once)
    assert first.json() == again.json()
    assert first.json() == await shop.seller.get(f"/v1/invoices/{first.json()['id']}")


async def test_its_outcomes_are_settled_where_credit_paid_and_invoiced_where_money_is_due(shop: Shop) -> None:
    prepaid = await shop.sell_outcome("a")
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    settled = await shop.outcome(prepaid)
    assert (settled["status"], settled["invoice"]) == ("settled", invoice["id"])
    assert [step["status"] for step in settled["history"]][-2:] == ["invoiced", "settled"]

    shop.customer = await shop.seller.customer(credit=None, disposition="payg")
    shop.buyer = Seller(shop.seller.http, shop.customer.secret)
    shop.gateway.customer = shop.customer
    owed = await shop.sell_outcome("a")
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    assert invoice["amount_due"] == "0.25"
    assert (await shop.outcome(owed))["status"] == "invoiced"


async def test_an_issued_invoice_can_not_be_changed(shop: Shop) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    await shop.close()
    columns = {"invoices": "exact_nanos", "invoice_lines": "exact_nanos", "invoice_portions": "tokens"}
    for table, column in columns.items():
        for change in ("UPDATE {} SET {} = 0", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
            async with shop.database.engine.connect() as connection:
                with pytest.raises(DBAPIError, match="append-only"):
                    await connection.execute(text(change.format(table, column)))


async def test_a_line_added_to_an_issued_invoice_is_refused(shop: Shop) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    with pytest.raises(DBAPIError, match="takes no more"):
        async with shop.database.begin() as session:
            await session.execute(
                text("""
                    INSERT INTO invoice_lines (invoice, position, kind, quantity, amount_minor, exact_nanos, prepaid)
                    VALUES (:id, 99, 'tokens', 1, 1, 0, false)
                """),
                {"id": invoice["id"]},
            )


@pytest.mark.parametrize(
    "orphan",
    [
        """
        INSERT INTO invoice_lines (invoice, position, kind, quantity, amount_minor, exact_nanos, prepaid)
        VALUES ('inv_none', 1, 'tokens', 1, 1, 0, false)
        """,
        """
        INSERT INTO invoice_portions (invoice, org, currency, month, project, wallet, price_book, model, disposition,
                                      token_class, span_start, span_end, tokens, nanos)
        VALUES ('inv_none', 'o', 'USD', '2026-11-01', 'p', 'w', 'pb', 'glm', 'payg', 'output', now(), now(), 1, 1)
        """,
    ],
)
async def test_the_database_refuses_what_belongs_to_no_invoice(shop: Shop, orphan: str) -> None:
    async with shop.database.engine.connect() as connection:
        with pytest.raises(IntegrityError, match="names an invoice that is not there"):
            await connection.execute(text(orphan))


@pytest.mark.parametrize("sequence", [1, 3])
async def test_the_database_refuses_a_number_out_of_order(shop: Shop, sequence: int) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    await shop.close()
    copied = f"""
        INSERT INTO invoices SELECT 'inv_x', seller, {sequence}, 'HR-x', org, currency, period_end,
          period_end + interval '1 day', issued_at, 0, 0, 0, 0, 0, document FROM invoices
    """  # noqa: S608 - numbers of this test
    async with shop.database.engine.connect() as connection:
        with pytest.raises(IntegrityError, match=r"does not follow|duplicate key"):
            await connection.execute(text(copied))


async def test_a_sellers_prefix_is_its_own_and_its_invoices_keep_what_they_say(shop: Shop) -> None:
    body = {"name": "Mill GmbH", "address": "Am Wehr 1\nBerlin", "tax_id": "DE1", "number_prefix": "MILL"}
    await shop.seller.ask("PUT", "/v1/sellers/mill", body)
    taken = await shop.seller.refused("/v1/sellers/other", body, method="PUT")
    assert taken == (409, "number_prefix_taken")
    await shop.sell()
    shop.clock.passes(hours=1)
    invoice = await shop.close(seller="mill")
    assert (invoice["number"], invoice["seller"]["name"]) == ("MILL-000001", "Mill GmbH")
    await shop.seller.ask("PUT", "/v1/sellers/mill", {**body, "name": "Mill AG"})
    assert (await shop.seller.get(f"/v1/invoices/{invoice['id']}"))["seller"]["name"] == "Mill GmbH"


async def test_closing_needs_an_organisation_that_exists_and_a_currency_that_is_clear(shop: Shop) -> None:
    assert await shop.refused_to_close(organization="org_none") == (404, "not_found")
    project = {"name": "yen", "currency": "JPY", "disposition": "prepaid"}
    await shop.seller.post("/v1/projects", {**project, "organization": shop.customer.org})
    assert await shop.refused_to_close() == (422, "currency_ambiguous")
    shop.clock.passes(hours=1)
    assert await shop.refused_to_close(currency="USD") == (409, "nothing_to_invoice")
    future = (shop.clock.now + MINUTE).isoformat()
    assert await shop.refused_to_close(currency="USD", end=future) == (422, "period_invalid")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sold=st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 2), st.booleans()), min_size=1, max_size=6)
)
async def test_any_order_of_usage_and_closes_ends_with_nothing_unbilled_and_nothing_due(
    shop: Shop, sold: list[tuple[int, int, bool]]
) -> None:
    began = shop.clock.now
    for tokens, minutes_late, close in sold:
        shop.clock.passes(minutes=5)
        at = max(began, shop.clock.now - timedelta(minutes=5 * minutes_late))
        await shop.sell(TokenCounts(input_uncached=tokens // 7, output_visible=tokens), at=at)
        if close:
            shop.clock.passes(minutes=5)
            await shop.seller.ask("POST", "/v1/periods/close", {"organization": shop.customer.org})
    shop.clock.passes(minutes=5)
    await shop.seller.ask("POST", "/v1/periods/close", {"organization": shop.customer.org})
    assert await shop.nanos(UNBILLED) == 0
    assert await shop.nanos(RECEIVABLE) == 0
    assert await shop.nanos(ROUNDING) == 0
    invoices = (await shop.seller.get("/v1/invoices"))["items"]
    numbers = [int(re.sub(r"\D", "", invoice["number"])) for invoice in invoices]
    assert all(later == earlier + 1 for earlier, later in pairwise(sorted(numbers)))
