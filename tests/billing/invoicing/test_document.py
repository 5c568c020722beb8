"""An invoice as the customer gets it: a golden document, and the same on paper."""

import json
import re
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from headrace_billing.invoicing.pdf import print_pdf
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.invoicing.abroad import invoice_abroad
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document, Seller

GOLDEN = Path(__file__).parent / "golden" / "invoice_1.json"

# Random; all the rest is fixed by the clock and the sale.
RANDOM = re.compile(r"\b(org|prj|inv)_[0-9a-f]{32}\b")


async def sold(shop: Shop) -> Document:
    await shop.seller.ask(
        "PUT",
        "/v1/sellers/default",
        {
            "name": "Headrace Mills Ltd",
            "address": "1 Weir Lane\nCromford DE4 3RQ\nUnited Kingdom",
            "tax_id": "VAT GB 000 0000 00",
            "email": "billing@headrace.example",
            "number_prefix": "HR",
        },
    )
    await shop.sell(
        TokenCounts(input_uncached=1_234_567, cache_read=765_432, output_visible=300_000, reasoning=45_678)
    )
    await shop.sell_outcome("first")
    await shop.sell_outcome("second")
    shop.clock.passes(minutes=1)
    payg = {"organization": shop.customer.org, "name": "batch", "currency": "USD", "disposition": "payg"}
    project = await shop.seller.post("/v1/projects", payg)
    key = await shop.seller.post("/v1/keys", {"project": project["id"], "name": "batch"})
    await shop.sell(
        TokenCounts(input_uncached=98_765, output_visible=4_321),
        disposition=Disposition.PAYG,
        project=project["id"],
        key=key["id"],
        wallet=project["wallet"],
    )
    shop.clock.passes(hours=1)
    return await shop.close()


async def test_the_document_is_the_golden_one(shop: Shop) -> None:
    invoice = await sold(shop)
    seen = RANDOM.sub(r"\1_x", json.dumps(invoice, indent=2, ensure_ascii=False)) + "\n"
    assert seen == GOLDEN.read_text()


@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD"])
async def test_document_and_paper_are_the_golden_ones_in_currencies_of_0_2_and_3_places(
    shop: Shop, currency: str
) -> None:
    invoice = await invoice_abroad(shop, currency)
    document = RANDOM.sub(r"\1_x", json.dumps(invoice, indent=2, ensure_ascii=False)) + "\n"
    paper = await shop.seller.ask("GET", f"/v1/invoices/{invoice['id']}.pdf")
    printed = RANDOM.sub(r"\1_x", text_of(paper.content)).replace("\u00a0", " ") + "\n"
    golden = GOLDEN.parent / f"invoice_{currency.lower()}.json"
    assert document == golden.read_text()
    assert printed == golden.with_suffix(".txt").read_text()


async def test_the_paper_says_what_the_document_says(shop: Shop) -> None:
    invoice = await sold(shop)
    answer = await shop.seller.ask("GET", f"/v1/invoices/{invoice['id']}.pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert invoice["number"] in answer.headers["content-disposition"]
    words = text_of(answer.content)
    for said in (
        invoice["number"],
        "Headrace Mills Ltd",
        "Millrace Analytics",
        "1,234,567",
        f"${invoice['total']}",
        f"${invoice['amount_due']}",
        "Credit applied",
        "confirmed",
    ):
        assert said in words, said


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [("JPY", "1234", "¥1,234"), ("KWD", "1.234", "KWD1.234"), ("EUR", "1234.50", "€1,234.50")],
)
def test_amounts_are_printed_as_the_currency_has_them(currency: str, amount: str, shown: str) -> None:
    document = json.loads(GOLDEN.read_text())
    document |= {"currency": currency, "total": amount, "credit_applied": "0", "amount_due": amount}
    document["lines"] = [{**document["lines"][0], "amount": amount, "unit_price": "0.1639"}]
    words = text_of(print_pdf(document)).replace("\u00a0", "")
    assert shown in words
    assert "0.1639 / 1M" in words


def test_a_customers_name_is_only_ever_text_on_paper() -> None:
    document = json.loads(GOLDEN.read_text())
    document["customer"]["name"] = '#panic("x") $ *bold* "quoted" <label> \\'
    assert '#panic("x") $ *bold*' in text_of(print_pdf(document)).replace("“", '"').replace("”", '"')


def test_an_invoice_of_many_lines_goes_over_pages() -> None:
    document = json.loads(GOLDEN.read_text())
    document["lines"] = document["lines"][:1] * 100
    assert len(PdfReader(BytesIO(print_pdf(document))).pages) > 1


async def test_an_invoice_that_is_not_there_is_not_found(shop: Shop) -> None:
    for path in ("/v1/invoices/inv_none", "/v1/invoices/inv_none.pdf"):
        assert await shop.seller.refused(path, None, method="GET") == (404, "not_found")
    buyer: Seller = shop.buyer
    assert await buyer.refused("/v1/invoices", None, method="GET") == (403, "forbidden")


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)
