"""The two names on an invoice: the legal entity that sells, and the customer with what its own books want printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stdnum import get_cc_module

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.einvoice.particulars import BuyerParticulars, SellerParticulars

PAYMENT_DAYS_DEFAULT = 30


@dataclass(frozen=True, slots=True)
class Seller:
    """The legal entity that invoices; numbers are gapless for each."""

    id: str
    name: str
    address: str
    tax_id: str
    email: str
    number_prefix: str
    country: str = ""
    e_invoice: SellerParticulars = field(default_factory=SellerParticulars)


class NumberPrefixTaken(BillingError):
    """Another seller's invoice numbers begin like that."""

    code = "number_prefix_taken"

    def __init__(self, prefix: str) -> None:
        super().__init__(f"The prefix {prefix!r} is another seller's.")


class VatIdInvalid(BillingError):
    """Not a VAT id that the country gives out: its form or its check digits are wrong."""

    code = "vat_id_invalid"

    def __init__(self, vat_id: str, country: str) -> None:
        super().__init__(f"{vat_id!r} is no VAT id of {country or 'any country: name the country'}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    seller: str
    """Who invoices the customer."""
    legal_name: str
    address: str = ""
    country: str = ""
    vat_id: str = ""
    tax_exempt: bool = False
    prices_include_tax: bool = False
    """As consumers are promised them: tax is taken out of what is due, not added."""
    purchase_order: str = ""
    payment_days: int = PAYMENT_DAYS_DEFAULT
    cost_centers: Mapping[str, str] = field(default_factory=dict)
    """By project."""
    e_invoice: BuyerParticulars = field(default_factory=BuyerParticulars)


def compact_vat_id(vat_id: str, country: str) -> str:
    """The id as it is printed, or empty. Raises `VatIdInvalid`.

    Checked by form and check digits; whether it is registered, only the country's own service knows.
    """
    if not vat_id:
        return ""
    # By what VAT is called in that country: `tva`, `btw`, `nip`.
    checker = get_cc_module(country.lower(), "vat") if country else None
    if checker is None:
        raise VatIdInvalid(vat_id, country)
    bare = "".join(character for character in vat_id.upper() if character.isalnum())
    if not checker.is_valid(bare):
        raise VatIdInvalid(vat_id, country)
    prefix = VAT_PREFIXES.get(country, country)
    return bare if bare.startswith(prefix) else prefix + bare


VAT_PREFIXES = {"GR": "EL"}
"""Where it is not the country's own code."""
