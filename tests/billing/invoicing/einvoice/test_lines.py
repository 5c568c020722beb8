"""Lines of e-invoices: quantity, price and amount agree, whatever the document's line is made of."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.invoicing.amounts import minor_of_tokens, plain
from headrace_billing.invoicing.einvoice.lines import items_of, line_terms
from headrace_billing.rating.price import parse_price, price_text
from tests.billing.seller import Document

TAX = {"treatment": "standard", "percent": "19", "amount": "0.00"}


def line(amount: str, **fields: Any) -> Document:
    return {
        "position": 1,
        "kind": "tokens",
        "description": "glm",
        "amount": amount,
        "prepaid": False,
        **fields,
    }


def terms(*lines: Document, contained: Decimal | None = None) -> list[Document]:
    return line_terms(items_of(lines, TAX, contained=contained), {})


def amount_of(of: Document) -> Decimal:
    return Decimal(of["BT-129"]) * Decimal(of["BT-146"]) / Decimal(of.get("BT-149", 1))


@given(
    tokens=st.integers(-(10**12), 10**12),
    price=st.decimals("0", "10000", places=12),
    currency=st.sampled_from(["USD", "JPY"]),
)
def test_any_number_of_tokens_at_any_price_is_the_amount_that_was_invoiced(
    tokens: int, price: Decimal, currency: str
) -> None:
    scaled = parse_price(f"{price:f}")
    amount = plain(minor_of_tokens(tokens, scaled, currency), currency)
    (found,) = terms(
        line(amount, quantity=tokens, unit_price=price_text(scaled), per=1_000_000, unit="token")
    )
    assert found["BT-131"] == amount
    assert Decimal(found["BT-146"]) >= 0
    assert amount_of(found).quantize(Decimal(amount), ROUND_HALF_UP) == Decimal(amount)


@given(
    amounts=st.lists(st.tuples(st.integers(-(10**6), 10**9), st.booleans()), min_size=1, max_size=20),
    share=st.integers(0, 10**4),
)
def test_tax_that_prices_hold_is_taken_out_of_the_lines_that_bear_it_to_the_cent(
    amounts: list[tuple[int, bool]], share: int
) -> None:
    due = sum(minor for minor, prepaid in amounts if not prepaid)
    tax = Decimal(max(due, 0) * share // 10**5).scaleb(-2)
    lines = [line(plain(minor, "USD"), prepaid=prepaid) for minor, prepaid in amounts]
    items = items_of(lines, TAX, contained=tax)
    assert sum(Decimal(one["amount"]) for one in lines) - sum(item.net for item in items) == tax
    assert all(item.net == Decimal(item.line["amount"]) for item in items if item.line["prepaid"])


def test_a_line_of_a_kind_that_nobody_knows_yet_is_stated_all_the_same() -> None:
    """By what every line has: a description, an amount, and maybe a quantity at a price."""
    seats = line("29.97", kind="charge", description="Seats", quantity=3, unit="seat", unit_price="9.99")
    hours = line("5.00", kind="charge", description="GPU", quantity=2, unit="hour", unit_price="2.5", per=1)
    fee = line("100.00", kind="charge", description="Base fee")
    odd = line("7.00", kind="charge", description="Block", quantity=3, unit="block", unit_price="2.5")
    found = terms(seats, hours, fee, odd)
    assert [(one["BT-129"], one["BT-130"], one["BT-146"]) for one in found] == [
        ("3", "C62", "9.99"),
        ("2", "HUR", "2.5"),
        ("1", "C62", "100.00"),
        ("1", "C62", "7.00"),
    ]
    assert found[3]["BT-154"] == "Quantity: 3 (block)"
    assert "BT-154" not in found[2]


def test_a_line_below_zero_has_a_quantity_below_zero_and_never_a_price() -> None:
    tiered = line("-4.50", quantity=-50_000, unit_price=None, per=1_000_000, unit="token")
    flat = line("-4.50", quantity=-50_000, unit_price="90", per=1_000_000, unit="token")
    found = terms(tiered, flat)
    assert [(one["BT-129"], one["BT-146"]) for one in found] == [("-1", "4.50"), ("-50000", "90")]


def test_an_adjustment_names_the_days_of_its_period_with_the_last_one_in_it() -> None:
    period = {"start": "2026-10-01T00:00:00+00:00", "end": "2026-11-01T00:00:00+00:00"}
    (found,) = terms(line("1.00", period=period))
    assert (f"{found['BT-134']}", f"{found['BT-135']}") == ("2026-10-01", "2026-10-31")
