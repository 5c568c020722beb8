"""Charges are exact until they are rounded once, and no split into batches changes what they add up to."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.rating.book import PriceBook, PriceLine, Prices
from headrace_billing.rating.cumulative import Change, Group, Payer, Rated, rate
from headrace_billing.rating.price import PriceInvalid, TokenClass, parse_price, price_text
from headrace_billing.rating.schedule import charge_nanos, flat
from headrace_contracts.usage import Disposition

PAYER = Payer(date(2026, 11, 1), "org", "prj", "wal", "USD", Disposition.PREPAID)
GROUP = Group(PAYER, "pb_usd_1", "glm", PriceLine(TokenClass.OUTPUT))
prices = st.integers(0, 10**21 - 1)


def charge(quantity: int, price: str) -> int:
    return charge_nanos(quantity, flat(parse_price(price)))


def test_a_token_costs_its_price_over_a_million() -> None:
    assert charge(1, "90") == 90_000
    assert charge(1_000_000, "0.1639") == 163_900_000


def test_half_a_nano_unit_is_rounded_away_from_zero() -> None:
    assert charge(1, "0.0005") == 1
    assert charge(1, "0.000499999999") == 0


@pytest.mark.parametrize(
    "price", ["", "-1", "1e3", "1.", ".5", "NaN", "0.1234567890123", "1234567890", "\u0661"]
)
def test_what_is_no_plain_decimal_is_no_price(price: str) -> None:
    with pytest.raises(PriceInvalid):
        parse_price(price)


@given(prices)
def test_a_price_survives_being_written_and_read(price: int) -> None:
    assert parse_price(price_text(price)) == price


def books(price: int) -> dict[str, PriceBook]:
    prices = Prices(dict.fromkeys(TokenClass, flat(price)))
    return {"pb_usd_1": PriceBook("pb_usd_1", "USD", {"glm": prices})}


@given(prices, st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_however_tokens_are_split_into_batches_the_posted_deltas_add_up_to_one_charge(
    price: int, batches: list[int]
) -> None:
    standing: dict[Group, Rated] = {}
    posted = 0
    for quantity in batches:
        rated, added = rate(standing, [Change(0, GROUP, quantity)], books(price), sources=1)
        posted += sum(added.nanos)
        standing |= rated
    assert posted == charge_nanos(sum(batches), flat(price))


@given(prices, st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_taken_back_takes_back_its_charge(price: int, kept: int, returned: int) -> None:
    first, added = rate({}, [Change(0, GROUP, kept + returned)], books(price), sources=1)
    _, taken_back = rate(first, [Change(0, GROUP, -returned)], books(price), sources=1)
    assert added.nanos[0] + taken_back.nanos[0] == charge_nanos(kept, flat(price))
