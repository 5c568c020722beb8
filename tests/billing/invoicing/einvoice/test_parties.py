"""Who sells and who buys: what an e-invoice must know of them, how it is told, and what happens where it is not."""

from dataclasses import replace
from typing import Any

import pytest

from headrace_billing.invoicing.einvoice.codes import ADDRESS_SCHEMES, COUNTRIES, REGISTERS, codes
from headrace_billing.invoicing.einvoice.facturx import written
from headrace_billing.invoicing.einvoice.particulars import BuyerParticulars, SellerParticulars
from headrace_billing.invoicing.einvoice.parties import parties_of
from headrace_billing.invoicing.einvoice.problems import Incomplete
from headrace_billing.invoicing.einvoice.terms import invoice_terms
from tests.billing.invoicing.abroad import PROFILE, SELLER, invoice_abroad
from tests.billing.invoicing.einvoice import documents
from tests.billing.invoicing.einvoice.parties import (
    BUYER_SAYS,
    SELLER_SAYS,
    profile_path,
    say_all,
    xml_of,
)
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document
from tests.support.schematron import broken_rules


async def test_what_is_missing_is_named_with_the_way_to_set_it_and_then_it_is_there(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD")
    for kind in ("xml", "pdf"):
        answer = await shop.seller.ask("GET", f"/v1/invoices/{invoice['id']}/factur-x.{kind}")
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "e_invoice_incomplete")
        assert {(one["field"], one["term"]) for one in problem["missing"]} == {
            ("seller.street", "BT-35"),
            ("seller.city", "BT-37"),
            ("seller.vat_id", "BT-31"),
            ("seller.legal_id", "BT-30"),
            ("customer.street", "BT-50"),
            ("customer.city", "BT-52"),
        }
        assert f"PUT {profile_path(shop)}" in problem["detail"]
        assert "PUT /v1/sellers/default" in problem["detail"]
    await say_all(shop)
    assert b"<ram:CityName>Cromford</ram:CityName>" in await xml_of(shop, invoice)


async def test_what_an_invoice_was_issued_with_stays_when_the_profile_changes(shop: Shop) -> None:
    await say_all(shop)
    invoice = await invoice_abroad(shop, "USD", e_invoice=BUYER_SAYS)
    moved = {**PROFILE, "e_invoice": {**BUYER_SAYS, "street": "Neue Gasse 1"}}
    assert (await shop.seller.ask("PUT", profile_path(shop), moved)).is_success
    await shop.seller.ask("PUT", "/v1/sellers/default", {**SELLER, "e_invoice": SELLER_SAYS})
    xml = (await xml_of(shop, invoice)).decode()
    assert "<ram:LineOne>Am Wehr 7</ram:LineOne>" in xml
    assert "Neue Gasse" not in xml


@pytest.mark.parametrize("country", ["", "XX"])
def test_a_country_that_decided_the_tax_is_never_filled_in_afterwards(country: str) -> None:
    document = documents.document()
    document["customer"]["country"] = country
    with pytest.raises(Incomplete, match=r"customer\.country \(BT-55\): .*for invoices from then on"):
        documents.parties(document)


@pytest.mark.parametrize(
    ("treatment", "says", "missing"),
    [
        ("standard", {"vat_id": ""}, {"seller.vat_id"}),
        ("standard", {"vat_id": "", "tax_number": "27/450/1"}, set()),
        ("standard", {"vat_id": "", "tax_number": "27/450/1", "legal_id": ""}, {"seller.legal_id"}),
        ("standard", {"legal_id": ""}, set()),
        ("untaxed", {"legal_id": ""}, {"seller.legal_id"}),
        ("untaxed", {"vat_id": ""}, set()),
    ],
)
def test_a_seller_is_known_by_what_the_tax_asks_for(
    treatment: str, says: dict[str, str], missing: set[str]
) -> None:
    document = documents.document()
    document["tax"] |= {"treatment": treatment}
    seller = replace(documents.SELLER, **says)
    try:
        documents.parties(document, seller)
        found = set()
    except Incomplete as error:
        found = {one["field"] for one in error.members["missing"]}
    assert found == missing


def test_whoever_is_known_well_enough_keeps_the_rules() -> None:
    bare = BuyerParticulars(street="Am Wehr 7", city="Berlin")
    least = SellerParticulars(street="1 Weir Lane", city="Cromford", vat_id="GB980780684")
    ways = (
        (least, bare),
        (replace(least, vat_id="", tax_number="27/450/1", legal_id="01234567"), bare),
        (replace(least, legal_id="732829320", legal_id_scheme="0002"), bare),
        (documents.SELLER, replace(documents.BUYER, legal_id="HRB 4711", post_code="")),
    )
    document = documents.document()
    xmls = [written(invoice_terms(document, documents.parties(document, *both))) for both in ways]
    assert broken_rules(xmls) == [set()] * len(ways)


def test_an_invoice_from_before_tax_lacks_what_an_e_invoice_says() -> None:
    document = documents.document()
    for party in ("seller", "customer"):
        del document[party]["country"]
    with pytest.raises(Incomplete, match=r"seller\.country"):
        parties_of(document, None, seller_now=documents.SELLER, buyer_now=documents.BUYER)


def test_nothing_on_file_names_everything_at_once() -> None:
    document = documents.document()
    with pytest.raises(Incomplete) as refused:
        documents.parties(document, SellerParticulars(), BuyerParticulars())
    assert len(refused.value.members["missing"]) == 6


@pytest.mark.parametrize(
    ("says", "where"),
    [
        ({"iban": "GB29NWBK60161331926818"}, "iban"),
        ({"bic": "NWBK"}, "bic"),
        ({"legal_id_scheme": "0002"}, "legal_id_scheme"),
        ({"legal_id": "1", "legal_id_scheme": "9999"}, "legal_id_scheme"),
        ({"address": "a@b.example"}, "address"),
        ({"address": "a@b.example", "address_scheme": "XX"}, "address_scheme"),
        ({"address": "not mail", "address_scheme": "EM"}, "address"),
        ({"town": "Cromford"}, "town"),
    ],
)
async def test_particulars_that_can_not_be_are_refused_when_they_are_saved(
    shop: Shop, says: dict[str, str], where: str
) -> None:
    answer = await shop.seller.ask("PUT", "/v1/sellers/default", {**SELLER, "e_invoice": says})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert where in answer.json()["detail"]


async def test_particulars_are_kept_as_told_in_one_form(shop: Shop) -> None:
    told = {**SELLER_SAYS, "iban": "gb29 NWBK 6016 1331 9268 19", "vat_id": "980 7806 84"}
    answer = await shop.seller.ask("PUT", "/v1/sellers/default", {**SELLER, "e_invoice": told})
    assert answer.json()["e_invoice"] == SELLER_SAYS
    wrong = {**SELLER, "e_invoice": {"vat_id": "GB980780685"}}
    assert await shop.seller.refused("/v1/sellers/default", wrong, method="PUT") == (422, "vat_id_invalid")
    body: Document = {**PROFILE, "e_invoice": BUYER_SAYS}
    await shop.seller.ask("PUT", profile_path(shop), body)
    assert (await shop.seller.get(profile_path(shop)))["e_invoice"] == BUYER_SAYS


@pytest.mark.parametrize(
    ("listed", "there", "elsewhere"),
    [
        (COUNTRIES, {"DE", "GB", "US", "JP"}, {"XX", "0002"}),
        (REGISTERS, {"0002", "0088", "0204"}, {"EM", "DE"}),
        (ADDRESS_SCHEMES, {"EM", "0088", "9930"}, {"DE", "0001"}),
    ],
)
def test_the_lists_of_codes_are_the_ones_that_their_names_say(
    listed: str, there: set[str], elsewhere: set[str]
) -> None:
    assert there <= codes(listed)
    assert not elsewhere & codes(listed)


def test_characters_that_xml_can_not_hold_are_left_out() -> None:
    document: Any = documents.document()
    document["customer"]["name"] = 'Mühl\uffff & <Graben> "GmbH" \U0001f30a'
    assert (
        '<ram:Name>Mühl &amp; &lt;Graben&gt; "GmbH" \U0001f30a</ram:Name>' in documents.xml(document).decode()
    )
