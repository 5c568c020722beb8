"""Invoices of golden documents, without an installation: for what is about documents alone."""

import json
from pathlib import Path

from headrace_billing.invoicing.einvoice.facturx import written
from headrace_billing.invoicing.einvoice.particulars import BuyerParticulars, SellerParticulars
from headrace_billing.invoicing.einvoice.parties import Parties, parties_of
from headrace_billing.invoicing.einvoice.terms import invoice_terms
from tests.billing.invoicing.einvoice.parties import BUYER_SAYS, SELLER_SAYS
from tests.billing.seller import Document

GOLDEN = Path(__file__).parents[1] / "golden"
SELLER, BUYER = SellerParticulars(**SELLER_SAYS), BuyerParticulars(**BUYER_SAYS)


def document() -> Document:
    """$68.63 that credit has paid, and $68.63 at 19 %."""
    found: Document = json.loads((GOLDEN / "invoice_usd.json").read_text())
    return found


def parties(of: Document, seller: SellerParticulars = SELLER, buyer: BuyerParticulars = BUYER) -> Parties:
    return parties_of(of, of["tax"], seller_now=seller, buyer_now=buyer)


def xml(of: Document) -> bytes:
    return written(invoice_terms(of, parties(of)))
