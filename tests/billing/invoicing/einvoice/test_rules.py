"""Whatever is issued keeps the rules of EN 16931 as an e-invoice: the published ones, run over the API's answers."""

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from headrace_contracts.usage import Ending, TokenCounts
from tests.billing.charges.books import charge, put
from tests.billing.ingest.usage import take
from tests.billing.invoicing.abroad import buys, invoice_abroad, settle_in
from tests.billing.invoicing.einvoice.parties import say_all, xml_of
from tests.billing.invoicing.shop import Shop
from tests.billing.invoicing.test_document import RANDOM
from tests.billing.invoicing.test_settlement import WHY, credit
from tests.billing.rating.test_books import ALL_KINDS
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import MODEL, Document
from tests.support.schematron import broken_rules

GOLDEN = Path(__file__).parent / "golden" / "factur-x_usd.xml"
VAT_ID = "DE136695976"
MINUTE = timedelta(minutes=1)


def categories(xml: bytes) -> dict[str, tuple[str, str]]:
    """By VAT category its taxable amount and its tax."""
    pattern = r"<ram:CalculatedAmount>(.*?)</.*?<ram:BasisAmount>(.*?)</.*?<ram:CategoryCode>(.*?)</ram:CategoryCode>"
    groups = re.findall(
        r"<ram:ApplicableTradeTax>\s*<ram:Calc.*?</ram:ApplicableTradeTax>", xml.decode(), re.DOTALL
    )
    found = [re.search(pattern, group, re.DOTALL) for group in groups]
    return {match[3]: (match[2], match[1]) for match in found if match}


def total(xml: bytes, name: str) -> str:
    summation = xml.decode().partition("HeaderMonetarySummation>")[2]
    found = re.search(rf"<ram:{name}(?: currencyID=\"\w+\")?>(.*?)</", summation)
    return found[1] if found else ""


async def test_an_invoice_is_the_golden_one(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD")
    await say_all(shop)
    seen = RANDOM.sub(r"\1_x", (await xml_of(shop, invoice)).decode())
    assert seen == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("currency", "profile", "taxed"),
    [
        ("USD", {}, {"E": ("68.63", "0.00"), "S": ("68.63", "13.04")}),
        ("JPY", {}, {"E": ("10295", "0"), "S": ("10295", "1956")}),
        ("USD", {"vat_id": VAT_ID}, {"E": ("68.63", "0.00"), "AE": ("68.63", "0.00")}),
        ("USD", {"tax_exempt": True}, {"E": ("137.26", "0.00")}),
        ("USD", {"country": "US"}, {"O": ("137.26", "0.00")}),
        ("USD", {"prices_include_tax": True}, {"E": ("68.63", "0.00"), "S": ("57.67", "10.96")}),
    ],
    ids=["standard", "yen", "reverse charge", "exempt", "not subject", "included"],
)
async def test_an_invoice_and_its_credit_notes_keep_the_rules_however_they_are_taxed(
    shop: Shop, currency: str, profile: Document, taxed: dict[str, tuple[str, str]]
) -> None:
    invoice = await invoice_abroad(shop, currency, **profile)
    part = await credit(shop, invoice, (1, None), (5, None))
    rest = await shop.seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", WHY)
    await say_all(shop, **profile)
    xmls = [await xml_of(shop, issued) for issued in (invoice, part, rest)]
    assert broken_rules(xmls) == [set(), set(), set()]
    assert categories(xmls[0]) == taxed
    whole = Decimal(invoice["amount_due"]) + Decimal(invoice["credit_applied"])
    assert total(xmls[0], "GrandTotalAmount") == str(whole)
    assert total(xmls[0], "TotalPrepaidAmount") == invoice["credit_applied"]
    assert total(xmls[0], "DuePayableAmount") == invoice["amount_due"]
    for note, xml in zip((part, rest), xmls[1:], strict=True):
        assert total(xml, "GrandTotalAmount") == note["total_with_tax"]
        assert total(xml, "TotalPrepaidAmount") == note["back_to_credit"]
        assert total(xml, "TaxTotalAmount") == note["tax"]
        assert f"<ram:IssuerAssignedID>{invoice['number']}</ram:IssuerAssignedID>" in xml.decode()


async def test_outcomes_a_rate_of_zero_and_a_void_keep_the_rules(shop: Shop) -> None:
    await settle_in(shop)
    zero = {"rates": [{"country": "DE", "name": "MwSt", "rate": "0"}]}
    assert (await shop.seller.ask("PUT", "/v1/sellers/default/tax-rates", zero)).is_success
    await shop.sell_outcome("first")
    await shop.sell_outcome("second")
    shop.clock.passes(minutes=1)
    await buys(shop, "USD", disposition="payg", name="batch")
    shop.clock.passes(hours=1)
    invoice = await shop.close()
    void = await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    await say_all(shop)
    xmls = [await xml_of(shop, issued) for issued in (invoice, void)]
    assert broken_rules(xmls) == [set(), set()]
    assert set(categories(xmls[0])) == {"E", "Z"}


async def test_tiers_late_usage_and_what_is_below_zero_keep_the_rules(shop: Shop) -> None:
    await settle_in(shop)
    await say_all(shop)
    book = {"currency": "USD", "models": {MODEL: {k: v for k, v in ALL_KINDS.items() if k != "windows"}}}
    shop.gateway.price_book = (await shop.seller.post("/v1/price-books", book))["id"]
    late, at = shop.clock.now + MINUTE, shop.clock.now
    estimate = shop.gateway.estimate(
        "0190f000-0000-7000-8000-000000000001",
        tokens=TokenCounts(input_uncached=100_000, cache_read=900_000),
        received_at=at,
    )
    await take(shop.database, estimate)
    await tell(shop.database, yielded(estimate))
    await shop.sell(TokenCounts(input_uncached=1_500_000, cache_write=1_234, output_visible=1_200_000))
    shop.clock.passes(hours=1)
    first = await shop.close()
    final = shop.gateway.event(
        request=estimate.id,
        tokens=TokenCounts(input_uncached=100_000, cache_read=300_000),
        received_at=at,
        ending=Ending.CLIENT_GONE,
    )
    await take(shop.database, final)
    await shop.sell(TokenCounts(output_visible=10_000), at=late)
    shop.clock.passes(hours=1)
    await shop.sell(TokenCounts(cache_read=1_000_000, output_visible=70_000), at=shop.clock.now - MINUTE)
    second = await shop.close()
    assert "-" in "".join(line["amount"] for line in second["lines"])
    assert any(line["unit_price"] is None for line in first["lines"])
    xmls = [await xml_of(shop, issued) for issued in (first, second)]
    assert broken_rules(xmls) == [set(), set()]
    assert "<ram:LineTotalAmount>-" in xmls[1].decode()


async def test_charges_for_a_time_keep_the_rules_also_those_below_zero(shop: Shop) -> None:
    await settle_in(shop)
    await put(
        shop,
        charge(shop, unit_price=Decimal("31.00")),
        charge(shop, reference="seats", label="Seats", quantity=3, unit="seat", amount_nanos=10 * 10**9),
        charge(shop, reference="back", label="Half of it back", amount_nanos=-int(15.5 * 10**9)),
    )
    shop.clock.passes(minutes=1)
    invoice = await shop.close()
    await say_all(shop)
    xml = await xml_of(shop, invoice)
    assert broken_rules([xml]) == [set()]
    assert categories(xml) == {"S": ("25.50", "4.85")}
    assert 'unitCode="MON"' in xml.decode()


async def test_a_currency_of_three_places_is_refused_and_says_why(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "KWD")
    await say_all(shop)
    path = f"/v1/invoices/{invoice['id']}/factur-x.xml"
    assert await shop.seller.refused(path, None, method="GET") == (409, "e_invoice_currency")
