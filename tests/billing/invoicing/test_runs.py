"""Invoice runs: drafts wait for late events, become final once, and say who was refused and why."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing import jobs
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.tax import Assessment, Sale, TaxTable
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.invoicing.shop import Shop
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Document, Seller

MINUTE = timedelta(minutes=1)


async def begin(shop: Shop, **fields: object) -> Document:
    return await shop.seller.post("/v1/invoice-runs", {"end": shop.clock.now.isoformat(), **fields})


async def work(shop: Shop) -> None:
    """As the worker does it, until nothing is due."""
    while await jobs.finalise_due(Books(shop.database, TaxTable()), now=shop.clock.now):
        pass


async def progress(shop: Shop, run: Document) -> tuple[int, int, int, int]:
    """Waiting, final, empty, refused."""
    shown = await shop.seller.get(f"/v1/invoice-runs/{run['id']}")
    return shown["waiting"], shown["final"], shown["empty"], shown["refused"]


async def another_shop(shop: Shop, boot: str) -> Shop:
    customer = await shop.seller.customer()
    return Shop(
        seller=shop.seller,
        customer=customer,
        buyer=Seller(shop.seller.http, customer.secret),
        gateway=Gateway(customer, shop.gateway.price_book, boot=boot),
        database=shop.database,
        parts=shop.parts,
        clock=shop.clock,
    )


async def test_an_event_within_the_grace_is_on_the_invoice_that_a_draft_showed_without_it(shop: Shop) -> None:
    await shop.sell(TokenCounts(output_visible=10_000))
    shop.clock.passes(hours=1)
    run = await begin(shop)
    path = f"/v1/invoice-runs/{run['id']}/drafts/{shop.customer.org}/USD"
    shown = await shop.seller.get(path)
    assert (shown["draft"]["status"], shown["draft"]["number"], shown["draft"]["total"]) == (
        "draft",
        None,
        "0.90",
    )
    shop.clock.passes(hours=5)
    await shop.sell(TokenCounts(output_visible=20_000), at=shop.clock.now - timedelta(hours=5, minutes=30))
    await work(shop)
    assert await progress(shop, run) == (1, 0, 0, 0)
    shop.clock.passes(hours=1)
    await work(shop)
    assert await progress(shop, run) == (0, 1, 0, 0)
    final = await shop.seller.get(f"/v1/invoices/{(await shop.seller.get(path))['invoice']}")
    assert (final["total"], final["number"]) == ("2.70", "HR-000001")
    assert final["period"]["end"] == run["end"]


async def test_each_customer_is_invoiced_once_by_however_many_workers(shop: Shop) -> None:
    shops = [shop, *[await another_shop(shop, f"boot-{n}") for n in range(6)]]
    for one in shops:
        await one.sell()
    shop.clock.passes(hours=1)
    run = await begin(shop, grace_hours=0)
    assert run["drafts"] == 7
    await asyncio.gather(*(work(shop) for _ in range(3)))
    await work(shop)
    assert await progress(shop, run) == (0, 7, 0, 0)
    invoices = (await shop.seller.get("/v1/invoices"))["items"]
    assert sorted(invoice["number"] for invoice in invoices) == [f"HR-{n:06d}" for n in range(1, 8)]
    assert len({invoice["organization"] for invoice in invoices}) == 7


async def test_a_refused_draft_names_its_culprit_and_is_tried_again_when_it_is_mended(shop: Shop) -> None:
    other = await another_shop(shop, "boot-2")
    await other.sell()
    bad = shop.gateway.event(received_at=shop.clock.now)
    await take(shop.database, bad)
    shop.clock.passes(hours=1)
    run = await begin(shop, grace_hours=0)
    await work(shop)
    assert await progress(shop, run) == (0, 1, 0, 1)
    (refused,) = (await shop.seller.get(f"/v1/invoice-runs/{run['id']}/drafts?state=refused"))["items"]
    assert (refused["organization"], refused["reason"]["code"]) == (shop.customer.org, "reconciliation_red")
    assert [culprit["id"] for culprit in refused["reason"]["unreconciled"]] == [bad.id]
    await tell(shop.database, yielded(bad))
    assert await shop.seller.post(f"/v1/invoice-runs/{run['id']}/retry") == {"id": run["id"], "retried": 1}
    await work(shop)
    assert await progress(shop, run) == (0, 2, 0, 0)


async def test_what_was_closed_by_hand_meanwhile_is_not_invoiced_again(shop: Shop) -> None:
    await shop.sell()
    shop.clock.passes(hours=1)
    run = await begin(shop, grace_hours=0)
    shop.clock.passes(minutes=1)
    await shop.close()
    await work(shop)
    assert await progress(shop, run) == (0, 0, 1, 0)
    assert len((await shop.seller.get("/v1/invoices"))["items"]) == 1


async def test_a_seller_has_one_run_up_to_a_time_and_none_up_to_the_future(shop: Shop) -> None:
    await begin(shop)
    end = shop.clock.now
    assert await shop.seller.refused("/v1/invoice-runs", {"end": end.isoformat()}) == (409, "run_exists")
    later = {"end": (end + MINUTE).isoformat()}
    assert await shop.seller.refused("/v1/invoice-runs", later) == (422, "period_invalid")
    strange = {"end": end.isoformat(), "seller": "none"}
    assert await shop.seller.refused("/v1/invoice-runs", strange) == (404, "not_found")


@pytest.mark.parametrize("path", ["", "/drafts", "/drafts/org_x/USD"])
async def test_a_run_that_is_not_there_is_not_found(shop: Shop, path: str) -> None:
    found = await shop.seller.refused(f"/v1/invoice-runs/run_none{path}", None, method="GET")
    assert found == (404, "not_found")


PER_INVOICE = ("id", "number", "status", "issued_at", "due_at", "standing")


def content(document: Document) -> Document:
    """What does not depend on when, and as the how-many-th, it was issued."""
    return {name: value for name, value in document.items() if name not in PER_INVOICE}


@pytest.mark.parametrize("batches", [[1, 1, 1, 1, 1, 1], [2, 3, 250], [250]])
async def test_a_run_in_any_parts_makes_the_invoices_that_its_drafts_showed(
    shop: Shop, batches: list[int]
) -> None:
    shops = [shop, *[await another_shop(shop, f"boot-{n}") for n in range(3)]]
    for number, one in enumerate(shops, 1):
        await one.sell(TokenCounts(input_uncached=number * 1_111, output_visible=number * 7))
        await one.sell(TokenCounts(output_visible=number), disposition=Disposition.PAYG)
    shop.clock.passes(hours=1)
    run = await begin(shop, grace_hours=0)
    drafts = {
        one.customer.org: await shop.seller.get(f"/v1/invoice-runs/{run['id']}/drafts/{one.customer.org}/USD")
        for one in shops
    }
    for batch in batches:
        await jobs.finalise_due(Books(shop.database, TaxTable()), now=shop.clock.now, batch_drafts=batch)
    await work(shop)
    invoices = (await shop.seller.get("/v1/invoices"))["items"]
    assert sorted(one["number"] for one in invoices) == [f"HR-{n:06d}" for n in range(1, 5)]
    assert {invoice["organization"]: content(invoice) for invoice in invoices} == {
        org: content(shown["draft"]) for org, shown in drafts.items()
    }


class Broken(TaxTable):
    """With a fault of its own for one customer."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def assess_all(self, session: AsyncSession, sales: Sequence[Sale]) -> list[Assessment]:
        assert all(sale.buyer.legal_name != self._name for sale in sales), "a fault"
        return await super().assess_all(session, sales)


async def test_a_fault_with_one_customer_keeps_nobody_else_from_an_invoice(shop: Shop) -> None:
    shops = [shop, *[await another_shop(shop, f"boot-{n}") for n in range(3)]]
    for one in shops:
        await one.sell()
    path = f"/v1/organizations/{shops[1].customer.org}/billing-profile"
    await shop.seller.ask("PUT", path, {"legal_name": "Odd Ltd"})
    shop.clock.passes(hours=1)
    run = await begin(shop, grace_hours=0)
    books = Books(shop.database, Broken("Odd Ltd"))
    while await jobs.finalise_due(books, now=shop.clock.now):
        pass
    assert await progress(shop, run) == (0, 3, 0, 1)
    (refused,) = (await shop.seller.get(f"/v1/invoice-runs/{run['id']}/drafts?state=refused"))["items"]
    assert (refused["organization"], refused["reason"]["code"]) == (shops[1].customer.org, "invoice_failed")
    await shop.seller.post(f"/v1/invoice-runs/{run['id']}/retry")
    await work(shop)
    numbers = sorted(one["number"] for one in (await shop.seller.get("/v1/invoices"))["items"])
    assert numbers == [f"HR-{n:06d}" for n in range(1, 5)]


async def test_whole_months_are_read_from_what_was_rated_and_events_are_counted_where_that_can_not_be(
    shop: Shop,
) -> None:
    """A rating that does not cost what it says is not believed, and every way makes the same invoice."""
    december, january = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    damage = "UPDATE rated_usage SET quantity = quantity + 5 WHERE period = '2026-12-01'"
    shop.clock.now = december
    await shop.sell(TokenCounts(output_visible=1000), at=december - MINUTE)
    first = await shop.close(end=december.isoformat())
    for at in (december, january - MINUTE):
        await shop.sell(TokenCounts(input_uncached=12_345, output_visible=2000), at=at)
    # Late, and of a month that the period which is closed now does not hold.
    await shop.sell(TokenCounts(output_visible=70), at=december - MINUTE)
    shop.clock.now = january
    run = await begin(shop, grace_hours=0)
    path = f"/v1/invoice-runs/{run['id']}/drafts/{shop.customer.org}/USD"
    rated = (await shop.seller.get(path))["draft"]
    async with shop.database.begin() as session:
        await session.execute(text(damage))
    counted = (await shop.seller.get(path))["draft"]
    assert [(line["kind"], line["quantity"], line["amount"]) for line in counted["lines"]] == [
        ("tokens", 24_690, "0.74"),
        ("tokens", 4000, "0.36"),
        ("adjustment", 70, "0.01"),
    ]
    assert counted == rated
    assert counted["lines"][2]["period"] == first["period"]
