"""Sellers, their tax tables and customers' profiles as the API shows them."""

from typing import NotRequired, cast

from typing_extensions import TypedDict

from headrace_billing.invoicing.parties import Profile, Seller


class ParticularsDocument(TypedDict):
    """What was said; nothing of what was not."""

    street: NotRequired[str]
    city: NotRequired[str]
    post_code: NotRequired[str]
    legal_id: NotRequired[str]
    legal_id_scheme: NotRequired[str]
    address: NotRequired[str]
    address_scheme: NotRequired[str]


class SellerParticularsDocument(ParticularsDocument):
    vat_id: NotRequired[str]
    tax_number: NotRequired[str]
    iban: NotRequired[str]
    bic: NotRequired[str]


class BuyerParticularsDocument(ParticularsDocument):
    buyer_reference: NotRequired[str]


class SellerDocument(TypedDict):
    id: str
    name: str
    address: str
    tax_id: str
    email: str
    number_prefix: str
    country: str
    e_invoice: SellerParticularsDocument


class TaxRateDocument(TypedDict):
    country: str
    name: str
    rate: str
    reverse_charge: bool


class TaxRatesDocument(TypedDict):
    seller: str
    rates: list[TaxRateDocument]


class ProfileDocument(TypedDict):
    organization: str
    seller: str
    legal_name: str
    address: str
    country: str
    vat_id: str
    tax_exempt: bool
    prices_include_tax: bool
    purchase_order: str
    payment_days: int
    cost_centers: dict[str, str]
    e_invoice: BuyerParticularsDocument


def seller_document(seller: Seller) -> SellerDocument:
    return {
        "id": seller.id,
        "name": seller.name,
        "address": seller.address,
        "tax_id": seller.tax_id,
        "email": seller.email,
        "number_prefix": seller.number_prefix,
        "country": seller.country,
        "e_invoice": cast("SellerParticularsDocument", seller.e_invoice.stated()),
    }


def profile_document(organization: str, profile: Profile) -> ProfileDocument:
    return {
        "organization": organization,
        "seller": profile.seller,
        "legal_name": profile.legal_name,
        "address": profile.address,
        "country": profile.country,
        "vat_id": profile.vat_id,
        "tax_exempt": profile.tax_exempt,
        "prices_include_tax": profile.prices_include_tax,
        "purchase_order": profile.purchase_order,
        "payment_days": profile.payment_days,
        "cost_centers": dict(profile.cost_centers),
        "e_invoice": cast("BuyerParticularsDocument", profile.e_invoice.stated()),
    }
