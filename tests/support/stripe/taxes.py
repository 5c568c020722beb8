"""Stripe Tax: calculations, the transactions that are made of them, and their reversals."""

from decimal import ROUND_HALF_UP, Decimal

from tests.support.stripe.account import Account, Object, Refused

CALCULATION_LIVES_SECONDS = 90 * 24 * 3600

# (kind, percent) by country; New York's, as Stripe tells it, is a state's, a city's and a district's.
RATES = {
    "DE": [("vat", "19.0")],
    "FR": [("vat", "20.0")],
    "US": [("sales_tax", "4.0"), ("sales_tax", "4.5"), ("sales_tax", "0.375")],
}
SELLS_FROM = "FR"
UNSUPPORTED = frozenset({"KP"})


def create_calculation(account: Account, params: Object) -> Object:
    """One line, as billing asks for it."""
    (line,) = params["line_items"]
    customer = params["customer_details"]
    address, amount = customer["address"], int(line["amount"])
    country = address["country"]
    if country == "US" and "postal_code" not in address:
        raise Refused(400, code="customer_tax_location_invalid", message="The address is incomplete.")
    inclusive = line["tax_behavior"] == "inclusive"
    reason = _reason(account, country, customer)
    if reason == "standard_rated":
        parts = _taxed(amount, RATES[country], inclusive=inclusive)
    else:
        parts = [(0, "vat", "0.0")]
    tax = sum(minor for minor, _, _ in parts)
    return account.new(
        "taxcalc",
        "tax.calculation",
        currency=params["currency"],
        customer_details=customer,
        amount_total=amount if inclusive else amount + tax,
        tax_amount_exclusive=0 if inclusive else tax,
        tax_amount_inclusive=tax if inclusive else 0,
        expires_at=account.time() + CALCULATION_LIVES_SECONDS,
        lines=[{"amount": amount, "amount_tax": tax, "reference": line["reference"]}],
        tax_breakdown=[
            {
                "amount": minor,
                "inclusive": inclusive,
                "taxability_reason": reason,
                "taxable_amount": amount - tax if inclusive else amount,
                "tax_rate_details": {"country": country, "percentage_decimal": percent, "tax_type": kind},
            }
            for minor, kind, percent in parts
        ],
    )


def _reason(account: Account, country: str, customer: Object) -> str:
    if country in UNSUPPORTED:
        return "not_supported"
    if country not in account.tax_registrations:
        return "not_collecting"
    if customer.get("taxability_override") == "customer_exempt":
        return "customer_exempt"
    if any(each["type"] == "eu_vat" for each in customer.get("tax_ids", [])) and country != SELLS_FROM:
        return "reverse_charge"
    return "standard_rated"


def _taxed(amount: int, rates: list[tuple[str, str]], *, inclusive: bool) -> list[tuple[int, str, str]]:
    """Each rate rounded by itself."""
    whole = Decimal(100) + (sum(Decimal(percent) for _, percent in rates) if inclusive else 0)
    return [
        (int((amount * Decimal(percent) / whole).quantize(Decimal(1), ROUND_HALF_UP)), kind, percent)
        for kind, percent in rates
    ]


def create_transaction(account: Account, params: Object) -> Object:
    calculation = account.get(params["calculation"])
    if calculation["expires_at"] <= account.time():
        raise Refused(400, code="tax_calculation_expired", message="The calculation has expired.")
    (line,) = calculation["lines"]
    return _transaction(account, params["reference"], "transaction", [{**line, "left": dict(line)}])


def create_reversal(account: Account, params: Object) -> Object:
    assert params["mode"] == "partial"
    original = account.get(params["original_transaction"])
    (wanted,) = params["line_items"]
    (line,) = [each for each in original["line_items"]["data"] if each["id"] == wanted["original_line_item"]]
    back = {name: int(wanted[name]) for name in ("amount", "amount_tax")}
    for name, minor in back.items():
        if minor > 0 or line["left"][name] + minor < 0:
            raise Refused(400, param=f"line_items[0][{name}]", message="More than is left of the line.")
    line["left"] = {**line["left"], **{name: line["left"][name] + minor for name, minor in back.items()}}
    return _transaction(
        account, params["reference"], "reversal", [{**back, "reference": wanted["reference"]}]
    )


def _transaction(account: Account, reference: str, kind: str, lines: list[Object]) -> Object:
    if account.listed("tax.transaction", reference=reference):
        raise Refused(400, param="reference", message="The reference is another transaction's.")
    made = account.new("tax", "tax.transaction", type=kind, reference=reference)
    made["line_items"] = {
        "object": "list",
        "has_more": False,
        "data": [{**line, "id": f"tax_li_{made['id'][4:]}_{n}"} for n, line in enumerate(lines)],
    }
    return made
