"""What becomes of an issued invoice, on real books: paid, credited, voided, written off; to the unit and only once."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from headrace_billing.ledger import store
from headrace_billing.ledger.transaction import AccountKind
from headrace_contracts.usage import TokenCounts
from tests.billing.invoicing.abroad import buys, invoice_abroad, settle_in
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document

WHY = {"reason": "agreed on the phone"}
CENT = 10_000_000

RECEIVABLE, CASH, BAD_DEBT = AccountKind.RECEIVABLE, AccountKind.CASH_CLEARING, AccountKind.BAD_DEBT
OWED_BACK, TAX, REVENUE = AccountKind.REFUND_LIABILITY, AccountKind.TAX_PAYABLE, AccountKind.REVENUE_TOKENS


async def issued(shop: Shop) -> Document:
    """$68.63 that credit has paid, and $68.63 that is due with $13.04 of tax: $81.67."""
    return await invoice_abroad(shop, "USD")


async def pay(shop: Shop, invoice: Document, amount: str, **fields: Any) -> Document:
    body = {
        "amount": amount,
        "currency": "USD",
        "reference": "bank transfer 17",
        "paid_at": shop.clock.now.isoformat(),
        **fields,
    }
    return await shop.seller.post(f"/v1/invoices/{invoice['id']}/payments", body)


async def credit(shop: Shop, invoice: Document, *lines: tuple[int, str | None]) -> Document:
    asked = [{"position": position, "amount": amount} for position, amount in lines]
    return await shop.seller.post(
        f"/v1/invoices/{invoice['id']}/credit-notes", {**WHY, "lines": asked or None}
    )


async def books_are_whole(shop: Shop) -> None:
    async with shop.database.begin() as session:
        assert await store.rebuild(session) == []
        assert set((await store.trial_balance(session)).by_currency.values()) == {0}


async def test_payments_add_up_to_paid_and_what_is_more_is_owed_to_the_customer(shop: Shop) -> None:
    invoice = await issued(shop)
    assert (invoice["amount_due"], invoice["standing"]["status"]) == ("81.67", "open")
    part = (await pay(shop, invoice, "80"))["standing"]
    assert (part["status"], part["open"], part["paid"]) == ("partly_paid", "1.67", "80.00")
    rest = (await pay(shop, invoice, "2.00"))["standing"]
    assert (rest["status"], rest["open"], rest["paid"], rest["overpaid"]) == ("paid", "0.00", "81.67", "0.33")
    cash = await shop.nanos(CASH) - 1_000_000 * 1_000_000_000
    assert cash == 8200 * CENT
    assert (await shop.nanos(RECEIVABLE), await shop.nanos(OWED_BACK)) == (0, -33 * CENT)
    await books_are_whole(shop)


async def test_a_payment_told_twice_is_recorded_once(shop: Shop) -> None:
    invoice = await issued(shop)
    path = f"/v1/invoices/{invoice['id']}/payments"
    body = {
        "amount": "5",
        "currency": "USD",
        "reference": "r",
        "paid_at": shop.clock.now.isoformat(),
    }
    first, again = [await shop.seller.ask("POST", path, body, **{"idempotency-key": "k"}) for _ in range(2)]
    assert first.json() == again.json()
    assert (await shop.seller.get(f"/v1/invoices/{invoice['id']}"))["standing"]["paid"] == "5.00"


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"currency": "EUR"}, (422, "currency_mismatch")),
        ({"amount": "0.001"}, (422, "amount_invalid")),
        ({"paid_at": "2027-01-01T00:00:00Z"}, (422, "paid_in_the_future")),
    ],
)
async def test_a_payment_that_can_not_be_is_refused(
    shop: Shop, fields: Document, refusal: tuple[int, str]
) -> None:
    invoice = await issued(shop)
    body = {"amount": "1", "currency": "USD", "reference": "r", "paid_at": "2026-11-23T12:00:00Z", **fields}
    assert await shop.seller.refused(f"/v1/invoices/{invoice['id']}/payments", body) == refusal
    assert (await shop.seller.get(f"/v1/invoices/{invoice['id']}/settlements"))["items"] == []


async def test_a_void_invoice_leaves_nothing_in_the_books_but_its_number(shop: Shop) -> None:
    await settle_in(shop)
    revenue, before = await shop.nanos(REVENUE), await _wallets(shop)
    invoice = await issued(shop)
    note = await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    assert note["number"] == "HR-CN-000001"
    assert (note["total_with_tax"], note["off_amount_due"]) == ("150.30", "81.67")
    assert note["back_to_credit"] == "68.63"
    for kind in (RECEIVABLE, TAX, OWED_BACK, AccountKind.ROUNDING, AccountKind.UNBILLED):
        assert await shop.nanos(kind) == 0, kind
    assert await shop.nanos(REVENUE) == revenue
    after = await _wallets(shop)
    assert {wallet: after[wallet] for wallet in before} == before
    assert max(after.values()) == 1_000_000 * 1_000_000_000
    shown = await shop.seller.get(f"/v1/invoices/{invoice['id']}")
    assert (shown["number"], shown["total"]) == ("HR-000001", "137.26")
    assert (shown["standing"]["status"], shown["standing"]["credit_notes"]) == ("void", ["HR-CN-000001"])
    again = await shop.seller.refused(f"/v1/invoices/{invoice['id']}/void", WHY)
    assert again == (409, "credited_in_full")
    await books_are_whole(shop)


async def _wallets(shop: Shop) -> dict[str, int]:
    async with shop.database.begin() as session:
        rows = await session.execute(text("SELECT id, remaining_nanos FROM credit_lots"))
        return {row.id: int(row.remaining_nanos) for row in rows}


async def test_what_is_paid_of_can_not_be_void_and_is_credited_as_money_owed(shop: Shop) -> None:
    invoice = await issued(shop)
    await pay(shop, invoice, "80.00")
    assert await shop.seller.refused(f"/v1/invoices/{invoice['id']}/void", WHY) == (409, "invoice_paid")
    note = await credit(shop, invoice, (6, None))
    # $27.00 with 19 %: $1.67 was open, and the rest was paid.
    assert (note["total"], note["tax"], note["off_amount_due"], note["owed_to_customer"]) == (
        "27.00",
        "5.13",
        "1.67",
        "30.46",
    )
    assert await shop.nanos(OWED_BACK) == -3046 * CENT
    assert (await shop.seller.get(f"/v1/invoices/{invoice['id']}"))["standing"]["status"] == "paid"
    await books_are_whole(shop)


async def test_a_line_is_never_credited_beyond_its_amount(shop: Shop) -> None:
    invoice = await issued(shop)
    await credit(shop, invoice, (4, "37.00"))
    path = f"/v1/invoices/{invoice['id']}/credit-notes"
    for lines in ([{"position": 4, "amount": "0.05"}], [{"position": 99}]):
        assert await shop.seller.refused(path, {**WHY, "lines": lines}) == (422, "credit_invalid")
    assert (await credit(shop, invoice, (4, None)))["total"] == "0.04"
    with pytest.raises(IntegrityError, match="credited beyond"):
        async with shop.database.begin() as session:
            await session.execute(
                text("""
                    INSERT INTO credit_note_lines (credit_note, invoice, position, amount_minor, exact_nanos)
                    SELECT min(id), :invoice, 5, 1000, 0 FROM credit_notes
                """),
                {"invoice": invoice["id"]},
            )


async def test_notes_for_all_parts_return_all_of_the_tax(shop: Shop) -> None:
    invoice = await issued(shop)
    notes = [await credit(shop, invoice, (position, "1.01")) for position in (4, 5, 6)]
    notes.append(await credit(shop, invoice))
    assert sum(_cents(note["tax"]) for note in notes) == 1304
    for kind in (RECEIVABLE, TAX, AccountKind.ROUNDING):
        assert await shop.nanos(kind) == 0, kind
    assert (await shop.seller.get(f"/v1/invoices/{invoice['id']}"))["standing"]["status"] == "credited"


async def test_an_outcome_that_was_reserved_goes_back_to_the_lot_that_it_came_from(shop: Shop) -> None:
    before = await shop.balance()
    await shop.sell_outcome("a")
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    assert await shop.balance() != before
    await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    assert await shop.balance() == before
    assert await shop.nanos(OWED_BACK) == 0


async def test_a_write_off_is_bad_debt_until_money_comes_after_all(shop: Shop) -> None:
    invoice = await issued(shop)
    path = f"/v1/invoices/{invoice['id']}/write-offs"
    written_off = await shop.seller.post(path, WHY)
    assert (written_off["amount"], written_off["standing"]["status"]) == ("81.67", "written_off")
    assert (await shop.nanos(BAD_DEBT), await shop.nanos(RECEIVABLE)) == (8167 * CENT, 0)
    assert await shop.seller.refused(path, WHY) == (409, "nothing_open")
    standing = (await pay(shop, invoice, "50.00"))["standing"]
    assert (standing["paid"], standing["written_off"], standing["open"]) == ("50.00", "31.67", "0.00")
    assert await shop.nanos(BAD_DEBT) == 3167 * CENT
    kinds = [
        one["kind"] for one in (await shop.seller.get(path.replace("write-offs", "settlements")))["items"]
    ]
    assert sorted(kinds) == ["payment", "recovery", "write_off"]
    await books_are_whole(shop)


async def test_notes_are_numbered_without_gap_whoever_asks_at_once(shop: Shop) -> None:
    invoice = await issued(shop)
    path = f"/v1/invoices/{invoice['id']}/credit-notes"
    bodies = [{**WHY, "lines": [{"position": n, "amount": "0.10"}]} for n in range(1, 7)]
    # A refusal in between must not use up a number.
    bodies += [{**WHY, "lines": [{"position": n, "amount": "9999"}]} for n in range(1, 4)]
    answers = await asyncio.gather(*(shop.seller.ask("POST", path, body) for body in bodies))
    numbers = sorted(answer.json()["number"] for answer in answers if answer.is_success)
    assert numbers == [f"HR-CN-{n:06d}" for n in range(1, 7)]


async def test_what_two_take_back_at_once_goes_back_once(shop: Shop) -> None:
    invoice = await issued(shop)
    path, body = f"/v1/invoices/{invoice['id']}/credit-notes", {**WHY, "lines": [{"position": 4}]}
    answers = await asyncio.gather(*(shop.seller.ask("POST", path, body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]
    assert await shop.nanos(RECEIVABLE) == 8167 * CENT - 4408 * CENT
    await books_are_whole(shop)


async def test_a_void_a_payment_and_a_write_off_at_once_settle_an_invoice_once(shop: Shop) -> None:
    invoice = await issued(shop)
    path = f"/v1/invoices/{invoice['id']}"
    payment = {
        "amount": "81.67",
        "currency": "USD",
        "reference": "r",
        "paid_at": shop.clock.now.isoformat(),
    }
    asked = [("void", WHY), ("void", WHY), ("write-offs", WHY), ("payments", payment)]
    await asyncio.gather(*(shop.seller.ask("POST", f"{path}/{what}", body) for what, body in asked))
    standing = (await shop.seller.get(path))["standing"]
    assert (standing["open"], await shop.nanos(RECEIVABLE)) == ("0.00", 0)
    settled = sum(_cents(standing[name]) for name in ("paid", "credited", "written_off"))
    # Money always arrives; what it finds nothing open for is owed back.
    assert (settled, _cents(standing["paid"]) + _cents(standing["overpaid"])) == (8167, 8167)
    assert await shop.nanos(OWED_BACK) == -_cents(standing["overpaid"]) * CENT
    await books_are_whole(shop)


async def test_what_became_of_an_invoice_can_not_be_changed(shop: Shop) -> None:
    invoice = await issued(shop)
    await pay(shop, invoice, "1.00")
    await credit(shop, invoice, (4, "1.00"))
    tables = {
        "invoice_settlements": "amount_minor",
        "credit_notes": "tax_minor",
        "credit_note_lines": "exact_nanos",
    }
    for (table, column), change in itertools.product(
        tables.items(), ("UPDATE {} SET {} = 0", "DELETE FROM {}", "TRUNCATE {} CASCADE")
    ):
        async with shop.database.engine.connect() as connection:
            with pytest.raises(DBAPIError, match="append-only"):
                await connection.execute(text(change.format(table, column)))


async def test_the_database_refuses_to_settle_more_than_is_due(shop: Shop) -> None:
    invoice = await issued(shop)
    with pytest.raises(IntegrityError, match="would be settled"):
        async with shop.database.begin() as session:
            await session.execute(
                text("""
                    INSERT INTO invoice_settlements (id, invoice, kind, amount_minor, reference, happened_at, recorded_at)
                    VALUES ('pay_x', :invoice, 'payment', 8168, '', now(), now())
                """),
                {"invoice": invoice["id"]},
            )


async def test_a_credit_note_is_printed(shop: Shop) -> None:
    invoice = await issued(shop)
    note = await credit(shop, invoice, (1, None), (4, "5.00"))
    answer = await shop.seller.ask("GET", f"/v1/credit-notes/{note['id']}.pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert note["number"] in answer.headers["content-disposition"]
    assert await shop.seller.get(f"/v1/credit-notes/{note['id']}") == note


async def test_open_invoices_are_listed_page_by_page_with_a_cursor_of_their_own(shop: Shop) -> None:
    invoice = await issued(shop)
    shop.gateway.price_book = await shop.seller.publish_prices()
    await buys(shop, "USD", disposition="prepaid", name="more", tokens=TokenCounts(output_visible=10_000))
    shop.clock.passes(hours=1)
    await shop.close(currency="USD")
    first = await shop.seller.get("/v1/invoices?limit=1")
    second = await shop.seller.get(f"/v1/invoices?limit=1&after={first['next']}")
    assert [one["number"] for one in first["items"] + second["items"]] == ["HR-000001", "HR-000002"]
    listed = (await shop.seller.get("/v1/invoices?open_only=true"))["items"]
    assert [one["id"] for one in listed] == [invoice["id"]]
    for strange in (f"/v1/invoices?after={first['next']}&open_only=true", "/v1/invoices?after=inv_1"):
        assert await shop.seller.refused(strange, None, method="GET") == (400, "cursor_invalid")


STEPS = st.one_of(
    st.tuples(st.just("pay"), st.integers(1, 12_000)),
    st.tuples(st.just("credit"), st.integers(1, 6), st.one_of(st.none(), st.integers(1, 4_000))),
    st.tuples(st.just("write_off")),
    st.tuples(st.just("void")),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=7), included=st.booleans())
async def test_whatever_is_done_the_books_hold_what_the_invoice_says(
    shop: Shop, steps: list[tuple[Any, ...]], included: bool
) -> None:
    """What is open is the receivable; nothing is settled twice; all credited leaves no revenue of it."""
    earlier = {
        kind: await shop.nanos(kind) for kind in (RECEIVABLE, REVENUE, AccountKind.ROUNDING, OWED_BACK, TAX)
    }
    await settle_in(shop, prices_include_tax=included)
    shop.gateway.price_book = await shop.seller.publish_prices()
    tokens = TokenCounts(input_uncached=1_234_567, cache_read=765_432, output_visible=300_001)
    for disposition in ("prepaid", "payg"):
        shop.clock.passes(minutes=1)
        await buys(shop, "USD", disposition=disposition, name=disposition, tokens=tokens)
    shop.clock.passes(hours=1)
    invoice = await shop.close(currency="USD")
    path = f"/v1/invoices/{invoice['id']}"
    paid = 0
    for kind, *rest in steps:
        shop.clock.passes(minutes=1)
        if kind == "pay":
            paid += rest[0]
            await pay(shop, invoice, f"{rest[0] / 100:.2f}")
        elif kind == "credit":
            amount = None if rest[1] is None else f"{rest[1] / 100:.2f}"
            lines = [{"position": rest[0], "amount": amount}]
            await shop.seller.ask("POST", f"{path}/credit-notes", {**WHY, "lines": lines})
        else:
            await shop.seller.ask("POST", f"{path}/{kind.replace('_off', '-offs')}", WHY)
    standing = (await shop.seller.get(path))["standing"]
    moved = {kind: await shop.nanos(kind) - before for kind, before in earlier.items()}
    assert moved[RECEIVABLE] == _cents(standing["open"]) * CENT
    assert _cents(standing["paid"]) + _cents(standing["overpaid"]) == paid
    assert _cents(standing["due"]) == sum(
        _cents(standing[name]) for name in ("paid", "credited", "written_off", "open")
    )
    if standing["status"] == "void":
        assert (moved[REVENUE], moved[AccountKind.ROUNDING], moved[TAX]) == (0, 0, 0)
    await books_are_whole(shop)


def _cents(amount: str) -> int:
    return int(amount.replace(".", ""))
