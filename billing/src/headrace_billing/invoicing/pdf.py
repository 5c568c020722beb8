"""An invoice on paper: the template is Typst, the amounts are written as people of the currency's world read them."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import typst
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal

TEMPLATE = Path(__file__).with_name("template.typ")
LOCALE = "en_US"


def print_pdf(document: Mapping[str, Any]) -> bytes:
    """The document as PDF; the same document gives the same text."""
    inputs = {"invoice": json.dumps(_printable(document), ensure_ascii=False)}
    printed: bytes = typst.compile(_template(), sys_inputs=inputs, format="pdf")
    return printed


@cache
def _template() -> bytes:
    return TEMPLATE.read_bytes()


def _printable(document: Mapping[str, Any]) -> dict[str, Any]:
    currency = document["currency"]
    seller = document["seller"]
    return {
        "number": document["number"],
        "seller": {
            "name": seller["name"],
            "lines": [
                line for line in (*seller["address"].splitlines(), seller["tax_id"], seller["email"]) if line
            ],
        },
        "customer": document["customer"],
        "currency": currency,
        "issued": format_date(datetime.fromisoformat(document["issued_at"]), "d MMMM yyyy", locale=LOCALE),
        "period_start": _moment(document["period"]["start"]),
        "period_end": _moment(document["period"]["end"]),
        "sections": _sections(document["lines"], currency),
        "total": _money(document["total"], currency),
        "credit": _money(document["credit_applied"], currency),
        "credit_applied": Decimal(document["credit_applied"]) != 0,
        "due": _money(document["amount_due"], currency),
        "settled": Decimal(document["amount_due"]) == 0,
        "notes": document["notes"],
    }


def _sections(lines: list[dict[str, Any]], currency: str) -> list[dict[str, Any]]:
    """Lines under the name of their project; outcomes belong to the customer as a whole."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        title = line["project"]["name"] if "project" in line else "Outcomes"
        sections.setdefault(title, []).append(_line(line, currency))
    return [{"title": title, "lines": shown} for title, shown in sections.items()]


def _line(line: Mapping[str, Any], currency: str) -> dict[str, str]:
    per = " / 1M" if line["per"] == 1_000_000 else ""
    return {
        "description": line["description"],
        "detail": f"Price book {line['price_book']}" if "price_book" in line else "",
        "quantity": format_decimal(line["quantity"], locale=LOCALE),
        # A price of several tiers has no place in a column; the document has all of it.
        "price": line["price"]["kind"]
        if line["unit_price"] is None
        else _price(line["unit_price"], currency) + per,
        "amount": _money(line["amount"], currency),
    }


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
