"""VAT categories: what a treatment of tax is called in EN 16931, line by line, and the sums of each.

What credit has paid carries no tax on the invoice, because that was settled when the credit was sold: such a line is
`E`, and says why. `O`, not subject to VAT, stands on an invoice alone (BR-O-11), so there prepaid lines are `O` too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from headrace_billing.invoicing.tax import Treatment


class Category(StrEnum):
    """Codes of UNTDID 5305."""

    STANDARD = "S"
    ZERO = "Z"
    EXEMPT = "E"
    REVERSE_CHARGE = "AE"
    NOT_SUBJECT = "O"


CATEGORIES = {
    Treatment.STANDARD: Category.STANDARD,
    Treatment.EXEMPT: Category.EXEMPT,
    Treatment.REVERSE_CHARGE: Category.REVERSE_CHARGE,
    Treatment.UNTAXED: Category.NOT_SUBJECT,
}

EXEMPTION_CODES = {Category.REVERSE_CHARGE: "VATEX-EU-AE", Category.NOT_SUBJECT: "VATEX-EU-O"}
REASONS = {Category.REVERSE_CHARGE: "Reverse charge", Category.NOT_SUBJECT: "Not subject to VAT"}
CUSTOMER_IS_EXEMPT = "The customer is exempt from tax."
PREPAID = "Paid with credit at the time of use; the tax on it was settled when the credit was sold."


@dataclass(frozen=True, slots=True)
class Vat:
    """Of one line, as BT-151 and BT-152 have it."""

    category: Category
    percent: str

    @property
    def rate(self) -> str | None:
        """Null where none may be stated (BR-O-05)."""
        return None if self.category is Category.NOT_SUBJECT else self.percent


def vat_of(tax: Mapping[str, Any], *, prepaid: bool) -> Vat:
    """`tax` as the invoice's document has it."""
    category = CATEGORIES[Treatment(tax["treatment"])]
    if category is Category.STANDARD and not Decimal(tax["percent"]):
        category = Category.ZERO
    if prepaid and category is not Category.NOT_SUBJECT:
        return Vat(Category.EXEMPT, "0")
    return Vat(category, tax["percent"] if category is Category.STANDARD else "0")


@dataclass(frozen=True, slots=True)
class Sum:
    """What a line brings to its category."""

    vat: Vat
    net: Decimal
    prepaid: bool


def breakdown(lines: Iterable[Sum], tax: Mapping[str, Any], *, tax_amount: Decimal) -> list[dict[str, str]]:
    """BG-23: a group for each category and rate, with the tax where it is due."""
    groups: dict[Vat, list[Sum]] = {}
    for line in lines:
        groups.setdefault(line.vat, []).append(line)
    return [
        {
            "BT-116": f"{sum(line.net for line in group):f}",
            "BT-117": f"{tax_amount if vat.category is Category.STANDARD else abs(tax_amount) * 0:f}",
            "BT-118": vat.category,
            **({} if vat.rate is None else {"BT-119": vat.rate}),
            **_why(vat.category, tax, has_prepaid=any(line.prepaid for line in group)),
        }
        for vat, group in groups.items()
    ]


def _why(category: Category, tax: Mapping[str, Any], *, has_prepaid: bool) -> dict[str, str]:
    """BT-120 and BT-121: why there is no tax."""
    if category is Category.EXEMPT:
        exempt = Treatment(tax["treatment"]) is Treatment.EXEMPT
        reasons = [CUSTOMER_IS_EXEMPT] * exempt + [PREPAID] * has_prepaid
        return {"BT-120": " ".join(reasons)}
    if category in REASONS:
        return {"BT-120": REASONS[category], "BT-121": EXEMPTION_CODES[category]}
    return {}
