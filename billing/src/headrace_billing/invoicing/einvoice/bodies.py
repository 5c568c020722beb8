"""The particulars as the API takes them: each is checked when it is saved, not when an invoice needs it."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator
from stdnum import iban

from headrace_billing.bodies import PRINTABLE, Body
from headrace_billing.invoicing.einvoice.codes import ADDRESS_SCHEMES, REGISTERS, codes

EMAIL_SCHEME = "EM"

Part = Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE, strip_whitespace=True)]
Bic = Annotated[str, StringConstraints(pattern=r"^([A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?)?$")]


class ParticularsBody(Body):
    street: Part = ""
    city: Part = ""
    post_code: Part = ""
    legal_id: Part = ""
    legal_id_scheme: Part = ""
    """A code of ISO 6523, such as `0002` for a SIRENE number."""
    address: Part = ""
    """Where e-invoices reach the party, or come from."""
    address_scheme: Part = ""
    """A code of the Electronic Address Scheme, such as `EM` for e-mail."""

    @model_validator(mode="after")
    def _schemes(self) -> Self:
        if self.legal_id_scheme and (not self.legal_id or self.legal_id_scheme not in codes(REGISTERS)):
            msg = "legal_id_scheme must be a code of ISO 6523 (ICD), with a legal_id"
            raise ValueError(msg)
        if bool(self.address) != bool(self.address_scheme):
            msg = "address and address_scheme go together"
            raise ValueError(msg)
        if self.address_scheme and self.address_scheme not in codes(ADDRESS_SCHEMES):
            msg = "address_scheme must be a code of the Electronic Address Scheme (EAS), such as EM"
            raise ValueError(msg)
        if self.address_scheme == EMAIL_SCHEME and "@" not in self.address:
            msg = "address must be an e-mail address where address_scheme is EM"
            raise ValueError(msg)
        return self


class SellerParticularsBody(ParticularsBody):
    vat_id: Part = ""
    tax_number: Part = ""
    """The local tax office's, for a seller without a VAT id; then with a legal_id."""
    iban: Annotated[str, Field(max_length=50)] = ""
    bic: Bic = ""

    @field_validator("iban")
    @classmethod
    def _whole_iban(cls, given: str) -> str:
        compact = "".join(given.split()).upper()
        if compact and not iban.is_valid(compact):
            msg = "its form or its check digits are wrong"
            raise ValueError(msg)
        return compact


class BuyerParticularsBody(ParticularsBody):
    buyer_reference: Part = ""
