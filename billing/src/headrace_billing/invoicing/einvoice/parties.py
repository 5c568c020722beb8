"""Seller and buyer as an e-invoice states them, or what of them is missing.

What was issued comes first. What it does not say of the particulars, which nobody reads on paper, is taken from what is
on file now, so that an invoice of last year can be had as one, too. What was printed is never replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace_billing.invoicing.einvoice.codes import COUNTRIES, codes
from headrace_billing.invoicing.einvoice.particulars import BuyerParticulars, SellerParticulars
from headrace_billing.invoicing.einvoice.problems import Incomplete, Lacking
from headrace_billing.invoicing.tax import Treatment

AT_ONCE = "set it in e_invoice by PUT {path}"
FROM_NOW_ON = "set it by PUT {path}, for invoices from then on; this one was issued without it"


@dataclass(frozen=True, slots=True)
class Parties:
    """Checked: what the standard wants of them is there."""

    seller: Mapping[str, Any]
    seller_says: SellerParticulars
    buyer: Mapping[str, Any]
    buyer_says: BuyerParticulars
    taxed: bool
    """Not subject to VAT, an invoice may state no VAT id (BR-O-02)."""

    @property
    def buyer_reference(self) -> str | None:
        return self.buyer_says.buyer_reference or None

    @property
    def account(self) -> tuple[str, str]:
        return self.seller_says.iban, self.seller_says.bic

    def said_in(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with the seller's particulars, so that people read what programs read."""
        return {**document, "seller": {**self.seller, "e_invoice": self.seller_says.stated()}}

    def seller_terms(self) -> dict[str, Any]:
        says, seller = self.seller_says, self.seller
        contact = [{"name": seller["name"], "email": seller["email"]}] if seller["email"] else []
        return {
            **_party(seller["name"], seller["country"], says),
            "contacts": contact,
            **({"vat_identifier": says.vat_id} if self.taxed and says.vat_id else {}),
            **({"tax_identifier": says.tax_number} if says.tax_number else {}),
        }

    def buyer_terms(self) -> dict[str, Any]:
        buyer, vat_id = self.buyer, self.buyer.get("vat_id")
        return {
            **_party(buyer["name"], buyer["country"], self.buyer_says),
            **({"vat_identifier": vat_id} if self.taxed and vat_id else {}),
        }


def parties_of(
    document: Mapping[str, Any],
    tax: Mapping[str, Any] | None,
    *,
    seller_now: SellerParticulars,
    buyer_now: BuyerParticulars,
) -> Parties:
    """Raises `Incomplete`, with all that is missing. `document` is an invoice's or a credit note's.

    `tax` is null on an invoice from before tax; then there was no country either, and so never an e-invoice.
    """
    seller, buyer = document["seller"], document["customer"]
    parties = Parties(
        seller,
        SellerParticulars(**{**seller_now.stated(), **seller.get("e_invoice", {})}),
        buyer,
        BuyerParticulars(**{**buyer_now.stated(), **buyer.get("e_invoice", {})}),
        taxed=tax is not None and Treatment(tax["treatment"]) is not Treatment.UNTAXED,
    )
    lacking = [*_seller_lacks(parties), *_buyer_lacks(parties)]
    if lacking:
        raise Incomplete(lacking)
    return parties


def _seller_lacks(parties: Parties) -> list[Lacking]:
    says, path = parties.seller_says, f"/v1/sellers/{parties.seller['id']}"
    at_once, later = AT_ONCE.format(path=path), FROM_NOW_ON.format(path=path)
    found = []
    if parties.seller.get("country") not in codes(COUNTRIES):
        found.append(Lacking("seller.country", "BT-40", later))
    if not says.street:
        found.append(Lacking("seller.street", "BT-35", at_once))
    if not says.city:
        found.append(Lacking("seller.city", "BT-37", at_once))
    if parties.taxed and not says.vat_id and not says.tax_number:
        found.append(Lacking("seller.vat_id", "BT-31", at_once))
    if not says.legal_id and not (parties.taxed and says.vat_id):
        # BR-CO-26: the buyer must be able to tell who it is.
        found.append(Lacking("seller.legal_id", "BT-30", at_once))
    return found


def _buyer_lacks(parties: Parties) -> list[Lacking]:
    says = parties.buyer_says
    path = f"/v1/organizations/{parties.buyer['id']}/billing-profile"
    at_once, later = AT_ONCE.format(path=path), FROM_NOW_ON.format(path=path)
    found = []
    if parties.buyer.get("country") not in codes(COUNTRIES):
        found.append(Lacking("customer.country", "BT-55", later))
    if not says.street:
        found.append(Lacking("customer.street", "BT-50", at_once))
    if not says.city:
        found.append(Lacking("customer.city", "BT-52", at_once))
    return found


def _party(name: str, country: str, says: SellerParticulars | BuyerParticulars) -> dict[str, Any]:
    return {
        "name": name,
        "country_code": country,
        "addr_l1": says.street,
        "city": says.city,
        "postcode": says.post_code,
        "legal_identifier": says.legal_id,
        "legal_identifier_schemeid": says.legal_id_scheme,
        "einvoicing_addr": says.address,
        "einvoicing_addr_schemeid": says.address_scheme,
    }
