"""Charges are exact until they are rounded once, and no split into batches changes what they add up to."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.rating.cumulative import Group, Payer, Rated, deltas, rate
from headrace_billing.rating.price import (
    PriceBook,
    PriceInvalid,
    Prices,
    TokenClass,
    charge_nanos,
    parse_price,
    price_text,
)
from headrace_contracts.usage import Disposition

PAYER = Payer(date(2026, 11, 1), "org", "prj", "wal", "USD", Disposition.PREPAID)
GROUP = Group(PAYER, "pb_usd_1", "glm", TokenClass.OUTPUT)
prices = st.integers(0, 10**21 - 1)


def test_a_token_costs_its_price_over_a_million() -> None:
    assert charge_nanos(1, parse_price("90")) == 90_000
    assert charge_nanos(1_000_000, parse_price("0.1639")) == 163_900_000


def test_half_a_nano_unit_is_rounded_away_from_zero() -> None:
    assert charge_nanos(1, parse_price("0.0005")) == 1
    assert charge_nanos(1, parse_price("0.000499999999")) == 0


@pytest.mark.parametrize(
    "price", ["", "-1", "1e3", "1.", ".5", "NaN", "0.1234567890123", "1234567890", "\u0661"]
)
def test_what_is_no_plain_decimal_is_no_price(price: str) -> None:
    with pytest.raises(PriceInvalid):
        parse_price(price)


@given(prices)
def test_a_price_survives_being_written_and_read(price: int) -> None:
    assert parse_price(price_text(price)) == price


@given(prices, st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_however_tokens_are_split_into_batches_the_posted_deltas_add_up_to_one_charge(
    price: int, batches: list[int]
) -> None:
    books = {"pb_usd_1": PriceBook("pb_usd_1", "USD", {"glm": Prices(dict.fromkeys(TokenClass, price))})}
    standing: dict[Group, Rated] = {}
    posted = 0
    for quantity in batches:
        rated = rate(standing, {GROUP: quantity}, books)
        posted += deltas(standing, rated).get(PAYER, 0)
        standing |= rated
    assert posted == charge_nanos(sum(batches), price)


@given(prices, st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_taken_back_takes_back_its_charge(price: int, kept: int, returned: int) -> None:
    books = {"pb_usd_1": PriceBook("pb_usd_1", "USD", {"glm": Prices(dict.fromkeys(TokenClass, price))})}
    first = rate({}, {GROUP: kept + returned}, books)
    second = rate(first, {GROUP: -returned}, books)
    assert deltas({}, first).get(PAYER, 0) + deltas(first, second).get(PAYER, 0) == charge_nanos(kept, price)
