"""Closing a month of the books: only when it is whole, and then for good."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from headrace_billing.accounting.month import MonthNotOver, MonthOutOfOrder, may_close
from headrace_billing.ledger import store
from headrace_billing.ledger.transaction import AccountKind, Transaction, TransactionKind, business, move
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document

BY_TWO = {"requested_by": "Ada", "approved_by": "Grace"}
NOVEMBER, DECEMBER = date(2026, 11, 1), datetime(2026, 12, 1, tzinfo=UTC)
PATH = "/v1/accounting-months/2026-11"


async def close_november(shop: Shop) -> Document:
    return await shop.seller.post(f"{PATH}/close", BY_TWO)


async def trial_balance(shop: Shop, at: datetime | None = None) -> Document:
    query = "" if at is None else f"?at={at.isoformat().replace('+00:00', 'Z')}"
    return await shop.seller.get(f"/v1/ledger/trial-balance{query}")


def transaction(key: str, at: datetime) -> Transaction:
    clearing = business(AccountKind.CASH_CLEARING, "USD")
    return Transaction(
        key,
        TransactionKind.PAYMENT,
        "USD",
        at,
        move(5, debit=clearing, credit=business(AccountKind.FX, "USD")),
    )


async def test_a_closed_month_keeps_its_trial_balance_whatever_comes_late(shop: Shop) -> None:
    await shop.sell()
    used_at = shop.clock.now
    shop.clock.now = DECEMBER + timedelta(days=1)
    closed = await close_november(shop)
    assert closed["trial_balance"]["currencies"] == [{"currency": "USD", "sum": "0.00"}]
    await shop.sell(TokenCounts(output_visible=10_000), at=used_at)
    assert await shop.seller.get(PATH) == closed
    at_the_end = await trial_balance(shop, DECEMBER)
    assert {name: at_the_end[name] for name in closed["trial_balance"]} == closed["trial_balance"]
    now = await trial_balance(shop)
    assert now["currencies"] == [{"currency": "USD", "sum": "0.00"}]
    assert (now["projections_off"], now["accounts"] != at_the_end["accounts"]) == ([], True)
    async with shop.database.begin() as session:
        late = await session.execute(
            text("SELECT accounting_at, late_for FROM ledger_transactions WHERE late_for IS NOT NULL")
        )
        assert [tuple(row) for row in late] == [(DECEMBER, NOVEMBER)]
        assert await store.rebuild(session) == []
    # Told in December, the late usage is an adjustment that names its time.
    invoice = await shop.close()
    assert invoice["total"] == "6.00"


async def test_nothing_is_posted_into_a_closed_month(shop: Shop) -> None:
    shop.clock.now = DECEMBER
    await close_november(shop)
    with pytest.raises(DBAPIError, match="books are closed"):
        async with shop.database.begin() as session:
            await session.execute(
                text("""
                    INSERT INTO ledger_transactions (key, payload_hash, kind, currency, occurred_at, accounting_at)
                    VALUES ('x', sha256('x'), 'payment', 'USD', '2026-11-30T23:59:59Z', '2026-11-30T23:59:59Z')
                """)
            )


async def test_who_was_posting_while_the_month_closed_is_in_it_and_who_came_after_is_not(shop: Shop) -> None:
    shop.clock.now = DECEMBER
    in_time = DECEMBER - timedelta(seconds=1)
    async with shop.database.begin() as session:
        await store.post(session, transaction("before", in_time))
        closing = asyncio.create_task(close_november(shop))
        await _someone_waits_for_the_books(shop)
    closed = await closing
    kinds = {account["kind"] for account in closed["trial_balance"]["accounts"]}
    assert AccountKind.FX in kinds
    async with shop.database.begin() as session:
        await store.post(session, transaction("after", in_time))
        rows = await session.execute(
            text("SELECT key FROM ledger_transactions WHERE late_for = '2026-11-01'")
        )
        assert list(rows.scalars()) == ["after"]


async def _someone_waits_for_the_books(shop: Shop) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with asyncio.timeout(20):
        while True:
            async with shop.database.begin() as session:
                if (await session.execute(waiting)).scalar_one():
                    return
            await asyncio.sleep(0.02)


async def test_a_customer_who_is_not_reconciled_keeps_the_month_open_and_is_named(shop: Shop) -> None:
    await shop.sell()
    other = await shop.seller.customer()
    await take(
        shop.database,
        Gateway(other, shop.gateway.price_book, boot="boot-2").event(received_at=shop.clock.now),
    )
    shop.clock.now = DECEMBER
    answer = await shop.seller.ask("POST", f"{PATH}/close", BY_TWO)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "month_not_reconciled")
    assert [(one["organization"], one["status"]) for one in problem["customers"]] == [(other.org, "red")]
    shown = await shop.seller.refused(PATH, None, method="GET")
    assert shown == (404, "not_found")


async def test_a_draft_of_an_invoice_keeps_its_month_open(shop: Shop) -> None:
    await shop.sell()
    shop.clock.now = DECEMBER
    await shop.seller.post("/v1/invoice-runs", {"end": DECEMBER.isoformat()})
    assert await shop.seller.refused(f"{PATH}/close", BY_TWO) == (409, "month_not_over")


async def test_books_that_differ_from_their_postings_keep_the_month_open(shop: Shop) -> None:
    shop.clock.now = DECEMBER
    async with shop.database.begin() as session:
        await session.execute(text("UPDATE credit_lots SET remaining_nanos = remaining_nanos - 1"))
    answer = await shop.seller.ask("POST", f"{PATH}/close", BY_TWO)
    assert (answer.status_code, answer.json()["code"]) == (409, "books_broken")
    assert [off.partition("_")[0] for off in answer.json()["off"]] == ["lot lot"]


async def test_closing_needs_two_and_happens_once(shop: Shop) -> None:
    shop.clock.now = DECEMBER
    alone = {**BY_TWO, "approved_by": "ada"}
    assert await shop.seller.refused(f"{PATH}/close", alone) == (422, "needs_two")
    answers = [
        await shop.seller.ask("POST", f"{PATH}/close", BY_TWO, **{"idempotency-key": "k"}) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert await shop.seller.refused(f"{PATH}/close", BY_TWO) == (409, "month_out_of_order")
    for change in ("UPDATE accounting_months SET approved_by = 'x'", "DELETE FROM accounting_months"):
        async with shop.database.engine.connect() as connection:
            with pytest.raises(DBAPIError, match="append-only"):
                await connection.execute(text(change))


@pytest.mark.parametrize(
    ("month", "last", "refusal"),
    [
        (date(2026, 12, 1), date(2026, 11, 1), MonthNotOver),
        (date(2026, 11, 1), date(2026, 11, 1), MonthOutOfOrder),
        (date(2026, 11, 1), date(2026, 9, 1), MonthOutOfOrder),
    ],
)
def test_months_are_closed_in_order_once_they_are_over(
    month: date, last: date, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        may_close(month, last=last, now=DECEMBER + timedelta(days=10), unfinished=0)
    may_close(date(2026, 11, 1), last=date(2026, 10, 1), now=DECEMBER, unfinished=0)
