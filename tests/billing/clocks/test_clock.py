"""The clock of a test installation: a month passes in one request, and what it brings is seen at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace_billing.app import compose
from headrace_billing.clock.movable import MovableClock
from headrace_billing.clock.store import follow
from headrace_billing.database import Database
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.jobs import finalise_due
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.parts import Parts
from headrace_contracts.usage import TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import NOW, Seller

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
ADVANCE = "/v1/test-clock/advance"


@pytest.fixture
def clock() -> MovableClock:
    """On a real time that stands still."""
    return MovableClock(real=lambda: NOW)


@pytest.fixture
def parts(parts: Parts, clock: MovableClock) -> Parts:
    return replace(parts, now=clock)


async def test_a_test_customer_sees_its_invoice_of_a_month_that_has_not_passed(
    seller: Seller, database: Database
) -> None:
    price_book = await seller.publish_prices()
    customer = await seller.customer(credit="500.00")
    short = {
        "wallet": customer.wallet,
        "amount": "5.00",
        "currency": "USD",
        "kind": "promo",
        "reason": "trial",
    }
    await seller.post("/v1/credit-grants", {**short, "expires_at": DECEMBER.isoformat()})
    event = Gateway(customer, price_book).event(tokens=TokenCounts(output_visible=100_000), received_at=NOW)
    await take(database, event)
    await tell(database, yielded(event))

    moved = await seller.post(ADVANCE, {"to": (DECEMBER + timedelta(hours=7)).isoformat()})
    assert moved["now"] == "2026-12-01T07:00:00+00:00"
    await seller.post("/v1/invoice-runs", {"end": DECEMBER.isoformat()})
    # Another process, which hears of the time from the database.
    worker = MovableClock(real=lambda: NOW)
    await follow(database, worker)
    await finalise_due(Books(database, TaxTable(), test=True), now=worker())
    await expire_lots(database, now=worker())

    (invoice,) = (await seller.get("/v1/invoices"))["items"]
    assert (invoice["total"], invoice["issued_at"]) == ("9.00", "2026-12-01T07:00:00+00:00")
    assert (invoice["period"]["end"], invoice["test"]) == ("2026-12-01T00:00:00+00:00", True)
    # $5.00 of the trial went first, and the rest of the $9.00 was paid for.
    assert await seller.balance(customer.wallet) == "496.00"


@pytest.mark.parametrize(
    ("to", "code"), [(NOW - timedelta(seconds=1), 422), (NOW + timedelta(days=401), 422), (NOW, 200)]
)
async def test_the_clock_goes_ahead_a_bounded_way_and_never_back(
    seller: Seller, to: datetime, code: int
) -> None:
    answer = await seller.ask("POST", ADVANCE, {"to": to.isoformat()})
    assert answer.status_code == code
    assert (await seller.get("/v1/test-clock"))["now"] == NOW.isoformat()


async def test_the_database_does_not_let_the_clock_go_back(seller: Seller, database: Database) -> None:
    await seller.post(ADVANCE, {"to": DECEMBER.isoformat()})
    for change in ("UPDATE test_clock SET ahead_us = 0", "DELETE FROM test_clock"):
        with pytest.raises(IntegrityError, match="does not go back"):
            async with database.begin() as session:
                await session.execute(text(change))


async def test_books_with_invoices_of_the_real_time_are_not_played_with(
    seller: Seller, database: Database
) -> None:
    price_book = await seller.publish_prices()
    customer = await seller.customer()
    event = Gateway(customer, price_book).event(received_at=NOW - timedelta(hours=1))
    await take(database, event)
    await tell(database, yielded(event))
    await seller.post("/v1/periods/close", {"organization": customer.org})
    assert await seller.refused(ADVANCE, {"to": DECEMBER.isoformat()}) == (409, "books_in_use")


async def test_an_installation_on_real_time_has_no_clock_to_move(parts: Parts) -> None:
    transport = httpx2.ASGITransport(app=compose(replace(parts, now=lambda: NOW)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        seller = Seller(http)
        assert await seller.refused(ADVANCE, {"to": DECEMBER.isoformat()}) == (404, "test_clock_off")
        assert await seller.refused("/v1/test-clock", None, method="GET") == (404, "test_clock_off")
