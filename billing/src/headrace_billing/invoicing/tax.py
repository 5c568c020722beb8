"""Tax on an invoice: by whichever adapter the seller has set; the built-in one goes by a table of rates.

Tax is on what is due. A line that credit has paid carries none: its tax was settled when the credit was sold, and a
gift has no price to tax. It is rounded once an invoice, half away from zero (EN 16931, BR-CO-17). Where a customer's
prices include it, it is taken out of what is due instead of added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from importlib import import_module
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.lines import TOKENS, Source
from headrace_billing.invoicing.parties import Profile, Seller

RATE_PLACES = 4
PERCENT = 100


class Treatment(StrEnum):
    STANDARD = "standard"
    REVERSE_CHARGE = "reverse_charge"
    EXEMPT = "exempt"
    UNTAXED = "untaxed"  # the seller has no rate for that country


class TaxUnavailable(BillingError):
    """Whoever reckons the tax does not answer; nothing was issued."""

    code = "tax_unavailable"


class TaxRefused(BillingError):
    """Whoever reckons the tax can't, until somebody has said or set something; nothing was issued."""

    code = "tax_refused"


@dataclass(frozen=True, slots=True)
class Rate:
    country: str
    name: str
    percent: Decimal
    reverse_charge: bool
    """A business abroad with a valid VAT id accounts for the tax itself."""


@dataclass(frozen=True, slots=True)
class Sale:
    seller: Seller
    buyer: Profile
    currency: str
    taxable_minor: int
    """What is due of the lines; with the tax where the buyer's prices include it."""


@dataclass(frozen=True, slots=True)
class Assessment:
    treatment: Treatment
    name: str
    percent: Decimal
    country: str
    taxable_minor: int
    """Without the tax."""
    tax_minor: int
    included: bool = False
    """The lines hold it already."""
    calculation: str = ""
    """What whoever reckoned it calls it, and wants to be told of when the invoice is final; empty where nobody does."""

    @property
    def added_minor(self) -> int:
        """What comes on top of the lines."""
        return 0 if self.included else self.tax_minor


class TaxAdapter(Protocol):
    """Reckons the tax of invoices: one assessment a sale, or a refusal rather than a guess."""

    async def assess_all(
        self, session: AsyncSession, sales: Sequence[Sale]
    ) -> Sequence[Assessment | TaxUnavailable | TaxRefused]: ...


class TaxTable:
    """The built-in adapter: the seller's rate for the buyer's country."""

    async def assess_all(self, session: AsyncSession, sales: Sequence[Sale]) -> list[Assessment]:
        rows = await session.execute(SELECT_RATES, {"sellers": sorted({sale.seller.id for sale in sales})})
        rates = {
            (row.seller, row.country): Rate(row.country, row.name, row.rate, row.reverse_charge)
            for row in rows
        }
        return [assess(sale, rates.get((sale.seller.id, _country(sale)))) for sale in sales]


def assess(sale: Sale, rate: Rate | None) -> Assessment:
    """The exempt first, then what the buyer accounts for itself, then the country's rate."""
    buyer, country = sale.buyer, _country(sale)
    if rate is None:
        return Assessment(Treatment.UNTAXED, "", Decimal(0), country, sale.taxable_minor, 0)
    if buyer.tax_exempt:
        return Assessment(Treatment.EXEMPT, rate.name, Decimal(0), country, sale.taxable_minor, 0)
    if rate.reverse_charge and country != sale.seller.country and buyer.vat_id:
        return Assessment(Treatment.REVERSE_CHARGE, rate.name, Decimal(0), country, sale.taxable_minor, 0)
    included = buyer.prices_include_tax
    tax = (contained_tax_minor if included else tax_minor)(sale.taxable_minor, rate.percent)
    base = sale.taxable_minor - tax if included else sale.taxable_minor
    return Assessment(Treatment.STANDARD, rate.name, rate.percent, country, base, tax, included)


def _country(sale: Sale) -> str:
    return sale.buyer.country or sale.seller.country


def tax_minor(taxable_minor: int, percent: Decimal) -> int:
    """On a sum without it; rounded half away from zero, in integers."""
    return divided_half_away(taxable_minor * _scaled(percent), PERCENT * 10**RATE_PLACES)


def contained_tax_minor(gross_minor: int, percent: Decimal) -> int:
    """Within a sum that holds it; rounded likewise."""
    scaled = _scaled(percent)
    return divided_half_away(gross_minor * scaled, PERCENT * 10**RATE_PLACES + scaled)


def _scaled(percent: Decimal) -> int:
    return int(percent.scaleb(RATE_PLACES))


def share_of_tax(tax: int, *, credited_minor: int, taxable_minor: int) -> int:
    """The tax of the credited part of a taxable sum; of all of it the whole tax, whatever parts it came in."""
    if taxable_minor == 0:
        return 0
    sign = 1 if taxable_minor > 0 else -1
    return divided_half_away(sign * tax * credited_minor, sign * taxable_minor)


def contained_by_source(tax: int, amounts: Iterable[tuple[Source, int]]) -> dict[Source, int]:
    """From where in the books a tax comes that the lines hold, by their amounts; tokens take what rounding leaves."""
    sums: dict[Source, int] = {}
    for source, minor in amounts:
        sums[source] = sums.get(source, 0) + minor
    taxable, upto, taken = sum(sums.values()), 0, 0
    found = {}
    for source in sorted(sums, key=_order):
        upto += sums[source]
        share = share_of_tax(tax, credited_minor=upto, taxable_minor=taxable) - taken
        found[source] = share
        taken += share
    return found


def _order(source: Source) -> tuple[bool, bool, Source]:
    return source == TOKENS, source.charge is not None, source


def adapter_of(path: str) -> TaxAdapter:
    """The adapter that a setting names as `module:class`. Raises `ValueError`."""
    module, _, name = path.partition(":")
    try:
        made: TaxAdapter = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        msg = f"{path!r} names no tax adapter: {error}"
        raise ValueError(msg) from error
    return made


SELECT_RATES = text("""
    SELECT seller, country, name, rate, reverse_charge FROM tax_rates WHERE seller = ANY(:sellers)
""")
