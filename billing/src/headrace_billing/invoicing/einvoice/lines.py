"""Lines of an e-invoice (BG-25): quantity times price by base quantity is the amount, to the currency's smallest unit.

Where no single price made the amount, or where the price holds the tax and the amount here may not, the line is one
piece at its amount, and says in words how much of what it is for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from headrace_billing.invoicing.einvoice.vat import Sum, Vat, vat_of

PIECE = "C62"
UNITS = {"second": "SEC", "minute": "MIN", "hour": "HUR", "day": "DAY", "month": "MON"}
"""Codes of UN/ECE Recommendation 20; whatever is counted otherwise is counted in pieces."""

ATTRIBUTES = {"model": "Model", "price_book": "Price book"}

ITEM_NAME_MAX = 200

Terms = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the document, and what of it is net of tax."""

    line: Mapping[str, Any]
    net: Decimal
    vat: Vat

    @property
    def sum(self) -> Sum:
        return Sum(self.vat, self.net, bool(self.line.get("prepaid")))


def items_of(
    lines: Sequence[Mapping[str, Any]], tax: Mapping[str, Any], *, contained: Decimal | None
) -> list[Item]:
    """`contained` is the tax that amounts hold, of the lines that credit has not paid; null where they hold none."""
    found = []
    taxed = taken = Decimal(0)
    whole = sum((Decimal(line["amount"]) for line in lines if not line.get("prepaid")), Decimal(0))
    for line in lines:
        amount, prepaid = Decimal(line["amount"]), bool(line.get("prepaid"))
        net = amount
        if contained and not prepaid:
            # Each takes what the sum so far holds, less what the ones before have taken: all of it, to the unit.
            taxed += amount
            upto = (contained * taxed / whole).quantize(contained, ROUND_HALF_UP)
            net, taken = amount - (upto - taken), upto
        found.append(Item(line, net, vat_of(tax, prepaid=prepaid)))
    return found


def line_terms(items: Iterable[Item], cost_centers: Mapping[str, str]) -> list[Terms]:
    """BG-25. `cost_centers` are by project."""
    return [_terms(item, cost_centers) for item in items]


def _terms(item: Item, cost_centers: Mapping[str, str]) -> Terms:
    line = item.line
    project = line.get("project") or {}
    found: Terms = {
        "BT-126": str(line["position"]),
        "BT-153": line["description"][:ITEM_NAME_MAX],
        "BT-131": f"{item.net:f}",
        "BT-151": item.vat.category,
        **({} if item.vat.rate is None else {"BT-152": item.vat.rate}),
        **_measured(item),
    }
    attributes = [
        ("Project", project.get("name")),
        *((said, line.get(name)) for name, said in ATTRIBUTES.items()),
    ]
    found["BG-32"] = [{"BT-160": name, "BT-161": value} for name, value in attributes if value]
    if cost_centers.get(project.get("id", "")):
        found["BT-133"] = cost_centers[project["id"]]
    if line.get("period"):
        first, last = days_of(line["period"])
        found |= {"BT-134": first, "BT-135": last}
    return found


def _measured(item: Item) -> Terms:
    """Quantity, unit and price; of a line below zero the quantity is, since no price may be (BR-27)."""
    line = item.line
    quantity, price, per = line.get("quantity"), line.get("unit_price"), line.get("per") or 1
    unit = UNITS.get(line.get("unit", ""), PIECE)
    if quantity and price is not None and Decimal(price) >= 0:
        product = Decimal(quantity) * Decimal(price) / per
        if product.quantize(item.net, ROUND_HALF_UP) == item.net:
            return {
                "BT-129": str(quantity),
                "BT-130": unit,
                "BT-146": price,
                **({} if per == 1 else {"BT-149": str(per)}),
            }
    said = {} if quantity is None else {"BT-154": f"Quantity: {quantity} ({line.get('unit', 'piece')})"}
    return {
        "BT-129": "-1" if item.net < 0 else "1",
        "BT-130": PIECE,
        "BT-146": f"{abs(item.net):f}",
        **said,
    }


def days_of(period: Mapping[str, str]) -> tuple[date, date]:
    """First and last day, in UTC, of instants that are half-open."""
    start, end = (datetime.fromisoformat(period[name]) for name in ("start", "end"))
    return start.date(), (end - timedelta(microseconds=1)).date()
