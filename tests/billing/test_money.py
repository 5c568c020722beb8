"""Amounts are exact or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.money import AmountInvalid, CurrencyUnknown, currency_of, major, micros_floor, nanos_of


@given(st.integers(1, 10**18))
def test_an_amount_survives_being_written_and_read(nanos: int) -> None:
    assert nanos_of(major(nanos)) == nanos


@pytest.mark.parametrize(
    ("amount", "nanos"),
    [
        ("5.00", 5_000_000_000),
        ("0.000000001", 1),
        ("1.50000000000000000000", 1_500_000_000),
        ("7", 7_000_000_000),
    ],
)
def test_a_plain_decimal_is_read_exactly(amount: str, nanos: int) -> None:
    assert nanos_of(amount) == nanos


@pytest.mark.parametrize(
    "amount",
    # The last has more digits than decimal arithmetic keeps by default.
    [
        "",
        "-1",
        "+1",
        "1e3",
        "1,5",
        "0",
        "0.0000000001",
        "1000000001",
        " 1",
        "\u0661",
        "99999999.00000000000000000001",
    ],
)
def test_anything_else_is_refused_rather_than_rounded(amount: str) -> None:
    with pytest.raises(AmountInvalid):
        nanos_of(amount)


def test_a_balance_for_admission_is_rounded_down_below_zero_too() -> None:
    assert (micros_floor(1_999), micros_floor(-1)) == (1, -1)


def test_a_currency_is_one_of_iso_4217() -> None:
    assert currency_of("JPY") == "JPY"
    with pytest.raises(CurrencyUnknown):
        currency_of("usd")
