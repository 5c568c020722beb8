"""Tax as Stripe Tax reckons it, for sellers who are registered in more places than a table can follow.

`HEADRACE_BILLING_TAX_ADAPTER=stripe`. What Stripe can't tell is refused: an invoice waits, and is never issued on a guess.
"""

import asyncio
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.invoicing.tax import (
    PERCENT,
    RATE_PLACES,
    Assessment,
    Sale,
    TaxAdapter,
    TaxRefused,
    TaxUnavailable,
    Treatment,
    adapter_of,
    contained_tax_minor,
    tax_minor,
)
from headrace_billing.payments.access import PaymentRefused, PaymentsUnavailable
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.tax_calls import Calculated

STRIPE = "stripe"

# Of Stripe's 100 requests a second a run may take some, and a worker has a handful of threads.
AT_ONCE_MAX = 4

EUROPEAN = (
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()  # noqa: SIM905 - a line
)
TAX_ID_KINDS = {"GB": "gb_vat", "CH": "ch_vat", "NO": "no_vat", "IS": "is_vat"}

NAMES = {
    "vat": "VAT",
    "sales_tax": "Sales tax",
    "gst": "GST",
    "hst": "HST",
    "pst": "PST",
    "qst": "QST",
    "rst": "RST",
    "jct": "Consumption tax",
    "igst": "IGST",
}

UNSUPPORTED = "not_supported"
WITHOUT_TAX = (
    ("reverse_charge", Treatment.REVERSE_CHARGE),
    ("customer_exempt", Treatment.EXEMPT),
    ("zero_rated", Treatment.STANDARD),
)
"""Stripe's reasons why no tax is due, in the order in which they are looked for; any other is `untaxed`."""


class StripeTax:
    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe

    async def assess_all(
        self,
        session: AsyncSession,  # noqa: ARG002 - Stripe has the rates
        sales: Sequence[Sale],
    ) -> list[Assessment | TaxUnavailable | TaxRefused]:
        turns = asyncio.Semaphore(AT_ONCE_MAX)

        async def assessed(sale: Sale) -> Assessment | TaxUnavailable | TaxRefused:
            async with turns:
                try:
                    return await self._assess(sale)
                except (TaxUnavailable, TaxRefused) as error:
                    return error

        return list(await asyncio.gather(*(assessed(sale) for sale in sales)))

    async def _assess(self, sale: Sale) -> Assessment:
        """Raises `TaxUnavailable`, `TaxRefused`."""
        if not sale.taxable_minor:
            # Credit has paid all of it: there is nothing to tax and nothing to tell.
            return Assessment(Treatment.UNTAXED, "", Decimal(0), sale.buyer.country, 0, 0)
        try:
            found = await self._stripe.tax.calculate(asked_of(sale))
        except PaymentsUnavailable as error:
            raise TaxUnavailable("Stripe Tax does not answer; nothing was issued.") from error
        except PaymentRefused as error:
            raise TaxRefused(_why(error.reason, sale)) from error
        return assessment_of(found, sale)


def asked_of(sale: Sale) -> dict[str, Any]:
    """The calculation that Stripe is asked for. Raises `TaxRefused`."""
    buyer = sale.buyer
    if not buyer.country:
        raise TaxRefused(_why("customer_tax_location_invalid", sale))
    says = buyer.e_invoice
    address = {
        "country": buyer.country,
        "line1": says.street,
        "city": says.city,
        "postal_code": says.post_code,
    }
    customer: dict[str, Any] = {
        "address": {name: value for name, value in address.items() if value},
        "address_source": "billing",
    }
    if buyer.vat_id:
        customer["tax_ids"] = [{"type": _kind_of(buyer.country), "value": buyer.vat_id}]
    if buyer.tax_exempt:
        customer["taxability_override"] = "customer_exempt"
    line = {
        "amount": sale.taxable_minor,
        "reference": "due",
        "tax_behavior": "inclusive" if buyer.prices_include_tax else "exclusive",
    }
    return {"currency": sale.currency.lower(), "line_items": [line], "customer_details": customer}


def assessment_of(found: Calculated, sale: Sale) -> Assessment:
    """Raises `TaxRefused` where Stripe does not know the place."""
    if any(part.reason == UNSUPPORTED for part in found.parts):
        raise TaxRefused(f"Stripe Tax does not support {sale.buyer.country}: {sale.buyer.legal_name}.")
    tax = found.exclusive_minor + found.inclusive_minor
    # Only prices that hold the tax that is due are said to include it; else they stay as they were promised.
    included = bool(found.inclusive_minor)
    taxed = [part for part in found.parts if part.tax_minor]
    taxable = sale.taxable_minor - found.inclusive_minor
    if taxed:
        treatment, named = Treatment.STANDARD, taxed
    else:
        named = list(found.parts)
        reasons = {part.reason for part in named}
        treatment = next((one for reason, one in WITHOUT_TAX if reason in reasons), Treatment.UNTAXED)
    name = " + ".join(dict.fromkeys(NAMES.get(part.kind, part.kind) for part in named if part.kind))
    return Assessment(
        treatment=treatment,
        name=name,
        percent=_percent(tax, taxable, sum((part.percent for part in taxed), Decimal(0)), included=included),
        country=next((part.country for part in named if part.country), sale.buyer.country),
        taxable_minor=taxable,
        tax_minor=tax,
        included=included,
        calculation=found.id,
    )


def _percent(tax: int, taxable: int, told: Decimal, *, included: bool) -> Decimal:
    """Several rates on the same sum are one; where they are on parts of it, what the tax comes to in all."""
    told = told.quantize(Decimal(1).scaleb(-RATE_PLACES), ROUND_HALF_UP)
    again = contained_tax_minor(taxable + tax, told) if included else tax_minor(taxable, told)
    if not tax or abs(again - tax) <= 1:
        return told if tax else Decimal(0)
    return (Decimal(tax * PERCENT) / taxable).quantize(Decimal(1).scaleb(-RATE_PLACES), ROUND_HALF_UP)


def _kind_of(country: str) -> str:
    """Raises `TaxRefused` for a VAT id that can't be told to Stripe: without it the tax could be another."""
    if country in EUROPEAN:
        return "eu_vat"
    if country not in TAX_ID_KINDS:
        raise TaxRefused(
            f"A VAT id of {country} can't be told to Stripe Tax: take it off the billing profile."
        )
    return TAX_ID_KINDS[country]


def _why(reason: str, sale: Sale) -> str:
    if reason == "customer_tax_location_invalid":
        return (
            f"Stripe Tax can't tell where {sale.buyer.legal_name} is. Set country, and in e_invoice street, city and "
            "post_code, by PUT /v1/organizations/{organization}/billing-profile."
        )
    return f"Stripe Tax refused: {reason}. See the tax settings of the Stripe account."


def tax_adapter(setting: str, stripe: Stripe | None) -> TaxAdapter:
    """Raises `ValueError` for a setting that names none."""
    if setting != STRIPE:
        return adapter_of(setting)
    assert stripe is not None, "settings hold that Stripe Tax has a Stripe account"
    return StripeTax(stripe)
