"""A seller and a customer who have said all that an e-invoice wants to know."""

from typing import Any

from tests.billing.invoicing.abroad import PROFILE, SELLER
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document

SELLER_SAYS = {
    "street": "1 Weir Lane",
    "city": "Cromford",
    "post_code": "DE4 3RQ",
    "vat_id": "GB980780684",
    "legal_id": "01234567",
    "address": "billing@headrace.example",
    "address_scheme": "EM",
    "iban": "GB29NWBK60161331926819",
    "bic": "NWBKGB2L",
}
BUYER_SAYS = {
    "street": "Am Wehr 7",
    "city": "Berlin",
    "post_code": "10115",
    "address": "rechnung@muehlgraben.example",
    "address_scheme": "EM",
    "buyer_reference": "04011000-12345-34",
}


async def say_all(shop: Shop, **profile: Any) -> None:
    """After the invoice was issued, as most will: the particulars alone, and what the profile was before."""
    for path, body in (
        ("/v1/sellers/default", {**SELLER, "e_invoice": SELLER_SAYS}),
        (profile_path(shop), {**PROFILE, **profile, "e_invoice": BUYER_SAYS}),
    ):
        answer = await shop.seller.ask("PUT", path, body)
        assert answer.is_success, answer.text


def profile_path(shop: Shop) -> str:
    return f"/v1/organizations/{shop.customer.org}/billing-profile"


async def xml_of(shop: Shop, issued: Document) -> bytes:
    """Of an invoice or a credit note."""
    return await e_invoice(shop, issued, "xml")


async def e_invoice(shop: Shop, issued: Document, kind: str) -> bytes:
    room = "invoices" if issued["id"].startswith("inv_") else "credit-notes"
    answer = await shop.seller.ask("GET", f"/v1/{room}/{issued['id']}/factur-x.{kind}")
    assert answer.is_success, answer.text
    assert answer.headers["content-type"] == f"application/{kind}"
    assert issued["number"] in answer.headers["content-disposition"]
    return answer.content
