"""Invoices and credit notes on paper: the template is Typst, the amounts are written as people of the currency's world read them."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import typst
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal

TEMPLATE = Path(__file__).with_name("template.typ")
LOCALE = "en_US"
MINUS = "\u2212"
PRICED_IN = {("GPU millisecond", 3_600_000): "GPU h"}
"""By unit and by how many of it the price is for."""


ARCHIVAL: Literal["a-3b"] = "a-3b"
"""PDF/A-3b, which may hold files."""


def print_pdf(document: Mapping[str, Any], *, archival: bool = False) -> bytes:
    """The document as PDF; the same document gives the same text. `archival` makes it a PDF/A-3b."""
    return _printed(
        {
            **_head(document, "Invoice"),
            "facts": [
                _fact("Date of issue", _day(document["issued_at"])),
                *(
                    [_fact("Due", _day(document["due_at"]))]
                    if _is_due(document) and "due_at" in document
                    else []
                ),
                _fact("Your order", document.get("purchase_order")),
                *(_account(document["seller"]) if _is_due(document) else ()),
                _fact("Period from", _moment(document["period"]["start"])),
                _fact("until", _moment(document["period"]["end"])),
            ],
            "totals": _invoice_totals(document),
            "due": _fact(f"Amount due ({document['currency']})", _money_of(document, "amount_due")),
            "settled": "" if _is_due(document) else "Nothing is left to pay. Thank you.",
            "notes": document["notes"],
        },
        archival=archival,
    )


def print_credit_note(document: Mapping[str, Any], *, archival: bool = False) -> bytes:
    destinations = (
        ("off_amount_due", "Taken off what is due"),
        ("owed_to_customer", "Owed to you as money"),
        ("back_to_credit", "Returned to your credit"),
    )
    invoice = document["invoice"]
    return _printed(
        {
            **_head(document, "Credit note"),
            "facts": [
                _fact("Date of issue", _day(document["issued_at"])),
                _fact("For invoice", f"{invoice['number']} of {_day(invoice['issued_at'])}"),
                _fact("Your order", document.get("purchase_order")),
                _fact("Reason", document["reason"]),
            ],
            "totals": [
                _fact("Total", _money_of(document, "total")),
                *(
                    [_fact(_tax_label(document), _money_of(document, "tax"))]
                    if Decimal(document["tax"])
                    else []
                ),
            ],
            "due": _fact(f"Credited ({document['currency']})", _money_of(document, "total_with_tax")),
            "settled": "",
            "notes": [
                f"{said}: {_money_of(document, name)}."
                for name, said in destinations
                if Decimal(document[name])
            ],
        },
        archival=archival,
    )


def _tax_label(document: Mapping[str, Any]) -> str:
    return "Tax in it" if document.get("tax_included") else "Tax"


def _printed(printable: Mapping[str, Any], *, archival: bool) -> bytes:
    inputs = {"invoice": json.dumps(printable, ensure_ascii=False)}
    printed: bytes = typst.compile(
        _template(), sys_inputs=inputs, format="pdf", pdf_standards=ARCHIVAL if archival else None
    )
    return printed


@cache
def _template() -> bytes:
    return TEMPLATE.read_bytes()


def _head(document: Mapping[str, Any], title: str) -> dict[str, Any]:
    seller, customer = document["seller"], document["customer"]
    return {
        "title": f"{title}, for testing only" if document.get("test") else title,
        "number": document["number"],
        "seller": {
            "name": seller["name"],
            "lines": [
                line
                for line in (
                    *seller["address"].splitlines(),
                    seller["tax_id"],
                    _vat_line(seller),
                    seller["email"],
                )
                if line
            ],
        },
        "customer": {
            "id": customer["id"],
            "name": customer["name"],
            "lines": [
                *customer.get("address", "").splitlines(),
                *([f"VAT id {customer['vat_id']}"] if customer.get("vat_id") else []),
            ],
        },
        "sections": _sections(document),
    }


def _vat_line(seller: Mapping[str, Any]) -> str | None:
    """Where it is not said already."""
    vat_id = seller.get("e_invoice", {}).get("vat_id")
    return f"VAT id {vat_id}" if vat_id and vat_id not in seller["tax_id"].replace(" ", "") else None


def _account(seller: Mapping[str, Any]) -> list[dict[str, str]]:
    says = seller.get("e_invoice", {})
    iban = says.get("iban", "")
    groups = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
    return [_fact("Pay to", groups), _fact("BIC", says.get("bic"))]


def _fact(label: str, value: str | None) -> dict[str, str]:
    return {"label": label, "value": value or ""}


def _is_due(document: Mapping[str, Any]) -> bool:
    return Decimal(document["amount_due"]) != 0


def _invoice_totals(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """Credit pays before tax: what it has paid carries none."""
    tax = document.get("tax")
    found = [_fact("Total", _money_of(document, "total"))]
    if Decimal(document["credit_applied"]):
        found.append(_fact("Credit applied at time of use", MINUS + _money_of(document, "credit_applied")))
    if tax is not None and tax["name"]:
        within = "includes " if tax.get("included") else ""
        said = f"{within}{tax['name']} {tax['percent']}% on {_money(tax['taxable'], document['currency'])}"
        found.append(_fact(said, _money(tax["amount"], document["currency"])))
    return found


def _money_of(document: Mapping[str, Any], name: str) -> str:
    return _money(document[name], document["currency"])


def _day(at: str) -> str:
    return format_date(datetime.fromisoformat(at), "d MMMM yyyy", locale=LOCALE)


def _sections(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines under the name of their project; outcomes and most charges belong to the customer as a whole."""
    centers = {one["id"]: one["cost_center"] for one in document.get("projects", ())}
    sections: dict[str, list[dict[str, Any]]] = {}
    for line in document["lines"]:
        title = "Plans, fees and credits" if "charge" in line else "Outcomes"
        if "project" in line:
            center = centers.get(line["project"]["id"])
            title = line["project"]["name"] + (f" · cost centre {center}" if center else "")
        sections.setdefault(title, []).append(_line(line, document["currency"]))
    return [{"title": title, "lines": shown} for title, shown in sections.items()]


def _line(line: Mapping[str, Any], currency: str) -> dict[str, str]:
    shown = {"description": line["description"], "amount": _money(line["amount"], currency)}
    if "quantity" not in line:
        return {**shown, "detail": f"Line {line['position']} of the invoice", "quantity": "", "price": ""}
    quantity, per = _measured(line)
    return {
        **shown,
        "detail": _detail(line),
        "quantity": quantity,
        # A price of several tiers has no place in a column; the document has all of it.
        "price": line.get("price", {"kind": ""})["kind"]
        if line["unit_price"] is None
        else _price(line["unit_price"], currency) + per,
    }


def _measured(line: Mapping[str, Any]) -> tuple[str, str]:
    """The quantity, and what the price is for: of what is counted finely, in the unit that its price is for."""
    unit = PRICED_IN.get((line["unit"], line["per"]))
    if unit is None:
        per = " / 1M" if line["per"] == 1_000_000 else ""
        return format_decimal(line["quantity"], locale=LOCALE), per
    quantity = format_decimal(Decimal(line["quantity"]) / line["per"], "#,##0.######", locale=LOCALE)
    return f"{quantity} {unit}", f" / {unit}"


def _detail(line: Mapping[str, Any]) -> str:
    if "charge" in line:
        return f"{_moment(line['period']['start'])} to {_moment(line['period']['end'])}"
    return f"Price book {line['price_book']}" if "price_book" in line else ""


def _money(amount: str, currency: str) -> str:
    return format_currency(Decimal(amount), currency, locale=LOCALE)


def _price(amount: str, currency: str) -> str:
    """A price keeps all of its places: $0.15 and $0.1639 alike."""
    value = Decimal(amount)
    places = max(2, -int(value.normalize().as_tuple().exponent))
    return format_currency(
        value, currency, format=f"¤#,##0.{'0' * places}", currency_digits=False, locale=LOCALE
    )


def _moment(at: str) -> str:
    return format_datetime(datetime.fromisoformat(at), "d MMMM yyyy, HH:mm 'UTC'", locale=LOCALE)
