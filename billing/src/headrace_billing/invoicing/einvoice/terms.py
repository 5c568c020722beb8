"""An invoice or a credit note in the terms of EN 16931: what is issued stays what it says, in the standard's words.

Keys are the standard's ids of business terms (BT) and groups (BG). docs/reference/e-invoices.md has the same as a table.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from headrace_billing.invoicing.amounts import minor_digits
from headrace_billing.invoicing.einvoice.lines import Item, Terms, days_of, items_of, line_terms
from headrace_billing.invoicing.einvoice.parties import Parties
from headrace_billing.invoicing.einvoice.problems import CurrencyTooFine
from headrace_billing.invoicing.einvoice.vat import breakdown

DECIMALS_MAX = 2
"""Of an amount (BR-DEC)."""

# UNTDID 1001 and 4461.
INVOICE, CREDIT_NOTE = "380", "381"
CREDIT_TRANSFER, SEPA_CREDIT_TRANSFER = "30", "58"

FOR_TESTING = "For testing only: nothing of this is meant."

Document = Mapping[str, Any]


def invoice_terms(document: Document, parties: Parties) -> Terms:
    """Raises `CurrencyTooFine`, `Incomplete`."""
    tax = document["tax"]
    tax_amount = Decimal(tax["amount"])
    items = items_of(document["lines"], tax, contained=tax_amount if tax["included"] else None)
    due = datetime.fromisoformat(document["due_at"]).date()
    return {
        **_head(document, INVOICE, parties, period=document["period"]),
        "BT-9": due,
        "BT-20": f"To be paid until {due:%Y-%m-%d}."
        if Decimal(document["amount_due"])
        else "Nothing is left to pay.",
        "BG-1": _notes(document, document["notes"]),
        **_payment(document, parties),
        **_totals(items, tax, tax_amount=tax_amount, paid=Decimal(document["credit_applied"])),
        "BG-25": line_terms(items, _cost_centers(document)),
    }


def credit_note_terms(document: Document, original: Document, parties: Parties) -> Terms:
    """`original` is the invoice's document. Raises as `invoice_terms`."""
    tax, tax_amount = original["tax"], Decimal(document["tax"])
    items = items_of(document["lines"], tax, contained=tax_amount if document["tax_included"] else None)
    invoice = document["invoice"]
    return {
        **_head(document, CREDIT_NOTE, parties, period=invoice["period"]),
        "BT-20": "To be set against what is open, or paid back.",
        "BG-1": _notes(document, [document["reason"]]),
        "BG-3": [{"BT-25": invoice["number"], "BT-26": _day(invoice["issued_at"])}],
        **_totals(items, tax, tax_amount=tax_amount, paid=Decimal(document["back_to_credit"])),
        "BG-25": line_terms(items, _cost_centers(original)),
    }


def _head(document: Document, kind: str, parties: Parties, *, period: Mapping[str, str]) -> Terms:
    if minor_digits(document["currency"]) > DECIMALS_MAX:
        raise CurrencyTooFine(document["currency"])
    first, last = days_of(period)
    return {
        "BT-1": document["number"],
        "BT-2": _day(document["issued_at"]),
        "BT-3": kind,
        "BT-5": document["currency"],
        "BT-10": parties.buyer_reference,
        "BT-13": document.get("purchase_order"),
        "BG-4": parties.seller_terms(),
        "BG-7": parties.buyer_terms(),
        # What is delivered is delivered over the period; the day of it is the last one.
        "BT-72": last,
        "BT-73": first,
        "BT-74": last,
    }


def _payment(document: Document, parties: Parties) -> Terms:
    """BG-16, where the seller has told of an account and something is to be paid."""
    iban, bic = parties.account
    if not iban or not Decimal(document["amount_due"]):
        return {}
    return {
        "BT-81": SEPA_CREDIT_TRANSFER if document["currency"] == "EUR" else CREDIT_TRANSFER,
        "BT-83": document["number"],
        "BT-84": iban,
        "BT-85": document["seller"]["name"],
        "BT-86": bic or None,
    }


def _totals(items: list[Item], tax: Mapping[str, Any], *, tax_amount: Decimal, paid: Decimal) -> Terms:
    """BG-22 and BG-23. What credit has paid is the paid amount (BT-113)."""
    net = sum((item.net for item in items), Decimal(0))
    whole = net + tax_amount
    return {
        "BG-23": breakdown((item.sum for item in items), tax, tax_amount=tax_amount),
        "BT-106": f"{net:f}",
        "BT-109": f"{net:f}",
        "BT-110": f"{tax_amount:f}",
        "BT-112": f"{whole:f}",
        **({"BT-113": f"{paid:f}"} if paid else {}),
        "BT-115": f"{whole - paid:f}",
    }


def _notes(document: Document, notes: list[str]) -> list[Terms]:
    said = [FOR_TESTING, *notes] if document.get("test") else notes
    return [{"BT-22": note} for note in said]


def _cost_centers(document: Document) -> dict[str, str]:
    return {
        one["id"]: one["cost_center"]
        for one in document.get("projects", ())
        if one["id"] is not None and one["cost_center"]
    }


def _day(at: str) -> date:
    return datetime.fromisoformat(at).date()
