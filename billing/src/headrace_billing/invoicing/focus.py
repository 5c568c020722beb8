"""Invoices as cost data by the FinOps Open Cost and Usage Specification, FOCUS 1.2 (focus.finops.org).

One row a line, and one for the tax. What credit has paid was billed when the credit was sold, so its `BilledCost` is
zero and its `EffectiveCost` the amount: over an invoice, `BilledCost` adds up to the amount due and `EffectiveCost` to
the total with tax, to the minor unit. Tax that prices include stays in the lines' costs. Credit notes are corrections below zero, in the month of their issue.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from headrace_billing.charges.charge import ChargeKind

Document = Mapping[str, Any]
Row = dict[str, str]

COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_CostCenter",
)

CATEGORIES: Mapping[str, tuple[str, str]] = {
    ChargeKind.PLAN: ("Purchase", "Recurring"),
    ChargeKind.SEAT: ("Purchase", "Recurring"),
    ChargeKind.ADD_ON: ("Purchase", "Recurring"),
    ChargeKind.FEE: ("Purchase", "One-Time"),
    ChargeKind.COMMITMENT: ("Purchase", "Recurring"),
    ChargeKind.TRUE_UP: ("Purchase", "Recurring"),
    ChargeKind.MINIMUM: ("Purchase", "Recurring"),
    ChargeKind.SERVICE_CREDIT: ("Credit", "One-Time"),
}

SERVICE = "Model inference"
UNITS = {"outcome": "Outcomes", "token": "Tokens"}
NOTHING = Decimal(0)


def invoice_rows(document: Document) -> Iterable[Row]:
    """Of an invoice as it was issued."""
    period = document["period"]
    centers = {one["id"]: one["cost_center"] for one in document.get("projects", ())}
    base = _base(document, period["start"], period["end"])
    for line in document["lines"]:
        charged = line.get("period") or period
        yield {
            **base,
            **_costs(Decimal(line["amount"]), prepaid=line["prepaid"]),
            **_service(line, centers),
            **_quantities(line),
            **_category(line),
            "ChargeClass": "Correction" if line["kind"] == "adjustment" else "",
            "ChargeDescription": line["description"],
            "ChargePeriodStart": _instant(charged["start"]),
            "ChargePeriodEnd": _instant(charged["end"]),
        }
    tax = document.get("tax")
    if tax is not None and Decimal(tax["amount"]) and not tax.get("included"):
        yield _tax_row(base, f"{tax['name']} {tax['percent']}%", Decimal(tax["amount"]), period)


def credit_note_rows(document: Document) -> Iterable[Row]:
    """Of a credit note as it was issued: what it takes back, for the period of its invoice."""
    period = document["invoice"]["period"]
    issued_at = datetime.fromisoformat(document["issued_at"]).astimezone(UTC)
    month = issued_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    base = {**_base(document, month.isoformat(), after.isoformat()), "ChargeClass": "Correction"}
    for line in document["lines"]:
        yield {
            **base,
            **_costs(-Decimal(line["amount"]), prepaid=line["prepaid"]),
            **_service(line, {}),
            **_category(line),
            "ChargeDescription": f"{line['description']}; credited from {document['invoice']['number']}",
            "ChargePeriodStart": _instant(period["start"]),
            "ChargePeriodEnd": _instant(period["end"]),
        }
    if Decimal(document["tax"]) and not document.get("tax_included"):
        yield _tax_row(
            base, f"Tax credited from {document['invoice']['number']}", -Decimal(document["tax"]), period
        )


def _base(document: Document, start: str, end: str) -> Row:
    return {
        **dict.fromkeys(COLUMNS, ""),
        "BillingAccountId": document["customer"]["id"],
        "BillingAccountName": document["customer"]["name"],
        "BillingCurrency": document["currency"],
        "BillingPeriodStart": _instant(start),
        "BillingPeriodEnd": _instant(end),
        "InvoiceId": document["number"],
        "InvoiceIssuerName": document["seller"]["name"],
        "ProviderName": document["seller"]["name"],
        "PublisherName": document["seller"]["name"],
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": SERVICE,
        "ServiceSubcategory": "Generative AI",
        "Tags": "{}",
    }


def _costs(amount: Decimal, *, prepaid: bool) -> Row:
    """List and contracted cost are those of the price book that the customer's prices come from."""
    return {
        "BilledCost": f"{NOTHING if prepaid else amount:f}",
        "EffectiveCost": f"{amount:f}",
        "ContractedCost": f"{amount:f}",
        "ListCost": f"{amount:f}",
    }


def _tax_row(base: Row, description: str, amount: Decimal, period: Document) -> Row:
    return {
        **base,
        **_costs(amount, prepaid=False),
        "ChargeCategory": "Tax",
        "ChargeDescription": description,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _instant(period["start"]),
        "ChargePeriodEnd": _instant(period["end"]),
    }


def _category(line: Document) -> Row:
    """What is bought for a time is a purchase, measured time is usage, and a credit is a credit."""
    category, frequency = CATEGORIES.get(line.get("charge", {"kind": ""})["kind"], ("Usage", "Usage-Based"))
    return {"ChargeCategory": category, "ChargeFrequency": frequency}


def _service(line: Document, centers: Mapping[str, str | None]) -> Row:
    project = line.get("project") or {"id": "", "name": ""}
    if "charge" in line:
        sku = line["charge"]["kind"]
    else:
        sku = line.get("outcome_type") or f"{line['model']}/{line.get('token_class', 'tokens')}"
    return {
        "SkuId": sku,
        "SubAccountId": project["id"],
        "SubAccountName": project["name"],
        "x_CostCenter": centers.get(project["id"]) or "",
    }


def _quantities(line: Document) -> Row:
    """Where more than one price made the amount there is no unit price, and so no pricing quantity."""
    unit = str(UNITS.get(line["unit"], line["unit"]))
    found = {"ConsumedQuantity": str(line["quantity"]), "ConsumedUnit": unit, "PricingCategory": "Standard"}
    if line["unit_price"] is None:
        return {**found, "PricingCategory": "Other"}
    per = line["per"]
    return {
        **found,
        "PricingQuantity": f"{Decimal(line['quantity']) / per:f}",
        "PricingUnit": unit if per == 1 else f"{per} {unit}",
        "ContractedUnitPrice": line["unit_price"],
        "ListUnitPrice": line["unit_price"],
        "SkuPriceId": line.get("price_book") or line.get("outcome_type") or line["charge"]["kind"],
    }


def _instant(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
