"""The seller's routes for who invoices, at which tax, and whom."""

from decimal import Decimal
from typing import Annotated, cast

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Name
from headrace_billing.callers import AdminOnly
from headrace_billing.errors import InvalidRequest
from headrace_billing.invoicing import party_store
from headrace_billing.invoicing.einvoice.bodies import BuyerParticularsBody, SellerParticularsBody
from headrace_billing.invoicing.einvoice.particulars import BuyerParticulars, SellerParticulars
from headrace_billing.invoicing.parties import PAYMENT_DAYS_DEFAULT, Profile, Seller, compact_vat_id
from headrace_billing.invoicing.party_documents import (
    ProfileDocument,
    SellerDocument,
    TaxRatesDocument,
    profile_document,
    seller_document,
)
from headrace_billing.invoicing.party_store import DEFAULT_SELLER
from headrace_billing.invoicing.tax import Rate
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["invoices"], dependencies=[AdminOnly], route_class=Answering)

Multiline = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")]
Brief = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
CountryOrNone = Annotated[str, StringConstraints(pattern=r"^([A-Z]{2})?$")]
Percent = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}(\.[0-9]{1,4})?$")]

RATES_MAX = 300
COST_CENTERS_MAX = 1_000
PAYMENT_DAYS_MAX = 365


class SellerBody(Body):
    name: Name
    address: Multiline = ""
    tax_id: Brief = ""
    email: Brief = ""
    number_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,9}$")]
    country: CountryOrNone = ""
    e_invoice: SellerParticularsBody = SellerParticularsBody()
    """What an e-invoice says beyond that."""

    @property
    def particulars(self) -> SellerParticulars:
        """Raises `VatIdInvalid`."""
        fields = self.e_invoice.model_dump()
        return SellerParticulars(**{**fields, "vat_id": compact_vat_id(fields["vat_id"], self.country)})


class TaxRate(Body):
    country: Country
    name: Name
    rate: Percent
    """In percent."""
    reverse_charge: bool = False
    """A business in that country with a valid VAT id accounts for the tax itself."""


class TaxRates(Body):
    rates: Annotated[list[TaxRate], Field(max_length=RATES_MAX)]


class ProfileBody(Body):
    seller: Id = DEFAULT_SELLER
    legal_name: Name
    address: Multiline = ""
    country: CountryOrNone = ""
    vat_id: Brief = ""
    tax_exempt: bool = False
    prices_include_tax: bool = False
    purchase_order: Brief = ""
    payment_days: Annotated[int, Field(ge=0, le=PAYMENT_DAYS_MAX)] = PAYMENT_DAYS_DEFAULT
    cost_centers: Annotated[dict[Id, Brief], Field(max_length=COST_CENTERS_MAX, default_factory=dict)]
    """By project."""
    e_invoice: BuyerParticularsBody = BuyerParticularsBody()
    """What an e-invoice says beyond that."""


@router.put("/v1/sellers/{seller_id}")
async def save_seller(seller_id: Id, body: SellerBody, parts: PartsOf) -> SellerDocument:
    """Who invoices. Invoices that were issued keep what they say."""
    seller = Seller(**{**body.model_dump(), "id": seller_id, "e_invoice": body.particulars})
    async with parts.database.begin() as session:
        await party_store.save_seller(session, seller)
    return seller_document(seller)


@router.put("/v1/sellers/{seller_id}/tax-rates")
async def save_tax_rates(seller_id: Id, body: TaxRates, parts: PartsOf) -> TaxRatesDocument:
    """The whole table, by the customer's country. What it does not name is not taxed."""
    countries = [rate.country for rate in body.rates]
    if len(set(countries)) != len(countries):
        raise InvalidRequest("rates: each country can stand there once.")
    rates = [Rate(rate.country, rate.name, Decimal(rate.rate), rate.reverse_charge) for rate in body.rates]
    async with parts.database.begin() as session:
        await party_store.save_rates(session, seller_id, rates)
    return cast("TaxRatesDocument", {"seller": seller_id, **body.model_dump()})


@router.put("/v1/organizations/{organization_id}/billing-profile")
async def save_profile(organization_id: Id, body: ProfileBody, parts: PartsOf) -> ProfileDocument:
    """Whom the next invoices are made out to. Invoices that were issued keep what they say."""
    vat_id = compact_vat_id(body.vat_id, body.country)
    async with parts.database.begin() as session:
        await accounts.organization(session, organization_id)
        says = BuyerParticulars(**body.e_invoice.model_dump())
        profile = Profile(**{**body.model_dump(), "vat_id": vat_id, "e_invoice": says})
        await party_store.save_profile(session, organization_id, profile)
    return profile_document(organization_id, profile)


@router.get("/v1/organizations/{organization_id}/billing-profile")
async def show_profile(organization_id: Id, parts: PartsOf) -> ProfileDocument:
    async with parts.database.begin() as session:
        organization = await accounts.organization(session, organization_id)
        profile = await party_store.profile(session, organization_id, name=organization.name)
    return profile_document(organization_id, profile)
