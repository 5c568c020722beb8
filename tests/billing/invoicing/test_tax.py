"""Tax by the built-in table: whose rate, who accounts for it, and its rounding."""

from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from headrace_billing.invoicing.parties import Profile, Seller, VatIdInvalid, compact_vat_id
from headrace_billing.invoicing.pdf import print_pdf
from headrace_billing.invoicing.tax import (
    Rate,
    Sale,
    TaxTable,
    Treatment,
    adapter_of,
    assess,
    contained_tax_minor,
    share_of_tax,
    tax_minor,
)
from headrace_billing.ledger.transaction import AccountKind
from tests.billing.invoicing.abroad import invoice_abroad
from tests.billing.invoicing.shop import Shop

SELLER = Seller("default", "Mills", "", "", "", "HR", "GB")
GERMAN = Rate("DE", "MwSt", Decimal("19.0000"), reverse_charge=True)
VALID = "DE136695976"


def sale(*, country: str = "DE", **profile: Any) -> Sale:
    return Sale(SELLER, Profile(seller="default", legal_name="M", country=country, **profile), "EUR", 10_050)


@pytest.mark.parametrize(
    ("bought", "rate", "treatment", "tax"),
    [
        (sale(), GERMAN, Treatment.STANDARD, 1910),
        (sale(vat_id=VALID), GERMAN, Treatment.REVERSE_CHARGE, 0),
        (sale(vat_id=VALID, tax_exempt=True), GERMAN, Treatment.EXEMPT, 0),
        (sale(country="US"), None, Treatment.UNTAXED, 0),
        # At home nobody reverses the charge.
        (
            sale(country="GB", vat_id="GB980780684"),
            Rate("GB", "VAT", Decimal("20.0000"), reverse_charge=True),
            Treatment.STANDARD,
            2010,
        ),
    ],
)
def test_the_treatment_follows_from_who_buys_where(
    bought: Sale, rate: Rate | None, treatment: Treatment, tax: int
) -> None:
    assessed = assess(bought, rate)
    assert (assessed.treatment, assessed.tax_minor, assessed.taxable_minor) == (treatment, tax, 10_050)


def test_half_a_unit_of_tax_is_rounded_away_from_zero() -> None:
    assert [tax_minor(minor, Decimal("5.0000")) for minor in (9, 10, 11, 29, 30)] == [0, 1, 1, 1, 2]


def test_tax_that_prices_include_is_taken_out_of_what_is_due() -> None:
    assessed = assess(sale(prices_include_tax=True), GERMAN)
    assert (assessed.taxable_minor, assessed.tax_minor, assessed.added_minor) == (8445, 1605, 0)


def test_a_price_that_includes_a_tax_that_is_not_owed_stays_as_it_was_promised() -> None:
    assessed = assess(sale(prices_include_tax=True, vat_id=VALID), GERMAN)
    assert (assessed.treatment, assessed.taxable_minor, assessed.tax_minor) == ("reverse_charge", 10_050, 0)


@given(gross=st.integers(0, 10**12), percent=st.integers(0, 999_999).map(lambda n: Decimal(n).scaleb(-4)))
def test_contained_tax_is_the_tax_of_what_remains_to_half_a_unit(gross: int, percent: Decimal) -> None:
    tax = contained_tax_minor(gross, percent)
    assert 0 <= tax <= gross
    assert abs((gross - tax) * percent / 100 - tax) <= (1 + percent / 100) / 2


@given(
    taxable=st.integers(1, 10**12),
    percent=st.integers(0, 999_999).map(lambda n: Decimal(n).scaleb(-4)),
    cuts=st.lists(st.integers(0, 10**12), max_size=5),
)
def test_however_a_sum_is_credited_all_of_its_tax_comes_back(
    taxable: int, percent: Decimal, cuts: list[int]
) -> None:
    whole, taken = tax_minor(taxable, percent), 0
    for upto in [*sorted(min(cut, taxable) for cut in cuts), taxable]:
        share = share_of_tax(whole, credited_minor=upto, taxable_minor=taxable) - taken
        assert share >= 0
        taken += share
    assert taken == whole


@pytest.mark.parametrize(
    ("given_id", "country", "kept"),
    [
        ("DE 136 695 976", "DE", VALID),
        ("136695976", "DE", VALID),
        ("094259216", "GR", "EL094259216"),
        ("Fr 40 303 265 045", "FR", "FR40303265045"),
        ("0044.95.445.B.01", "NL", "NL004495445B01"),
        ("00743110157", "IT", "IT00743110157"),
        ("U13585627", "AT", "ATU13585627"),
        ("995 525 828 MVA", "NO", "NO995525828MVA"),
        ("", "", ""),
    ],
)
def test_a_vat_id_is_kept_in_one_form(given_id: str, country: str, kept: str) -> None:
    assert compact_vat_id(given_id, country) == kept


@pytest.mark.parametrize(
    ("vat_id", "country"), [("DE136695977", "DE"), ("FR12", "FR"), (VALID, "US"), (VALID, "")]
)
def test_a_vat_id_with_a_wrong_digit_or_of_no_country_is_refused(vat_id: str, country: str) -> None:
    with pytest.raises(VatIdInvalid):
        compact_vat_id(vat_id, country)


async def test_a_business_abroad_is_told_that_it_accounts_for_the_tax(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD", vat_id=VALID)
    assert (invoice["tax"]["treatment"], invoice["tax"]["amount"]) == ("reverse_charge", "0.00")
    assert invoice["customer"]["vat_id"] == VALID
    assert "Reverse charge: the customer accounts for the tax." in invoice["notes"]
    assert invoice["amount_due"] == "68.63"


async def test_a_consumer_pays_the_price_as_told_and_revenue_is_what_remains_of_it(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD", prices_include_tax=True)
    assert invoice["tax"] == {
        "treatment": "standard",
        "name": "MwSt",
        "percent": "19",
        "country": "DE",
        "taxable": "57.67",
        "amount": "10.96",
        "included": True,
    }
    assert (invoice["total"], invoice["credit_applied"], invoice["amount_due"]) == (
        "137.26",
        "68.63",
        "68.63",
    )
    assert await shop.nanos(AccountKind.TAX_PAYABLE) == -10_960_000_000
    printed = PdfReader(BytesIO(print_pdf(invoice))).pages[0].extract_text()
    assert "includes MwSt 19% on $57.67 $10.96" in " ".join(printed.split())
    assert await shop.nanos(AccountKind.RECEIVABLE) == 68_630_000_000
    (november,) = (await shop.seller.get("/v1/revenue/schedule?start=2026-11&end=2026-11"))["items"]
    # $68.629692 that credit paid to the nano, and $68.63 less its tax.
    assert november["recognised"]["total"] == "126.299692"


async def test_profile_and_rates_are_kept_as_told_or_refused(shop: Shop) -> None:
    path = f"/v1/organizations/{shop.customer.org}/billing-profile"
    assert (await shop.seller.get(path))["legal_name"] == "Millrace Analytics"
    body = {"legal_name": "M", "country": "DE", "vat_id": "DE136695977"}
    assert await shop.seller.refused(path, body, method="PUT") == (422, "vat_id_invalid")
    strange = {"legal_name": "M", "cost_centers": {"prj_of_somebody_else": "1"}}
    assert await shop.seller.refused(path, strange, method="PUT") == (404, "not_found")
    rate = {"country": "DE", "name": "MwSt", "rate": "19"}
    twice = {"rates": [rate, rate]}
    assert await shop.seller.refused("/v1/sellers/default/tax-rates", twice, method="PUT") == (
        400,
        "invalid_request",
    )
    assert await shop.seller.refused("/v1/sellers/none/tax-rates", {"rates": []}, method="PUT") == (
        404,
        "not_found",
    )


def test_another_adapter_is_named_by_its_path() -> None:
    assert isinstance(adapter_of("headrace_billing.invoicing.tax:TaxTable"), TaxTable)
    for wrong in ("headrace_billing.nothing:Tax", "headrace_billing.invoicing.tax:Nothing", "nothing"):
        with pytest.raises(ValueError, match="names no tax adapter"):
            adapter_of(wrong)
