"""What an e-invoice says of the two parties beyond what a printed one needs: an address in its parts, and numbers."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """Empty where nobody has said it. What is in it was checked when it was saved."""

    street: str = ""
    city: str = ""
    post_code: str = ""
    legal_id: str = ""
    """As the register has it that the party is entered in."""
    legal_id_scheme: str = ""
    """Which register: a code of ISO 6523."""
    address: str = ""
    """Where e-invoices reach the party, or come from."""
    address_scheme: str = ""
    """What kind of address: a code of the Electronic Address Scheme, `EM` for e-mail."""

    def stated(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class SellerParticulars(Particulars):
    vat_id: str = ""
    tax_number: str = ""
    """The local tax office's, for a seller without a VAT id."""
    iban: str = ""
    bic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerParticulars(Particulars):
    buyer_reference: str = ""
    """What the buyer wants to find on an invoice, such as a routing id of an authority."""
