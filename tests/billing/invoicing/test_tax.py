"""Tax by the built-in table: whose rate, who accounts for it, and its rounding."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.invoicing.parties import Profile, Seller, VatIdInvalid, compact_vat_id
from headrace_billing.invoicing.tax import (
    Rate,
    Sale,
    TaxTable,
    Treatment,
    adapter_of,
    assess,
    share_of_tax,
    tax_minor,
)
from tests.billing.invoicing.abroad import invoice_abroad
from tests.billing.invoicing.shop import Shop

SELLER = Seller("default", "Mills", "", "", "", "HR", "GB")
GERMAN = Rate("DE", "MwSt", Decimal("19.0000"), reverse_charge=True)
VALID = "DE136695976"


def sale(*, country: str = "DE", vat_id: str = "", tax_exempt: bool = False) -> Sale:
    profile = Profile(seller="default", legal_name="M", country=country, vat_id=vat_id, tax_exempt=tax_exempt)
    return Sale(SELLER, profile, "EUR", 10_050)


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
