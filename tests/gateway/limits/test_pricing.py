"""Holds are priced exactly and rounded up, whatever the numbers."""

from decimal import ROUND_CEILING, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.usage import TokenCounts
from headrace_gateway.limits import pricing
from headrace_gateway.limits.pricing import UnitPrices

prices = st.decimals(0, 10_000, places=12)
tokens = st.integers(0, 10_000_000)


@given(
    counted=st.tuples(tokens, tokens, tokens, tokens, tokens), price=st.tuples(prices, prices, prices, prices)
)
def test_a_cost_is_the_exact_sum_rounded_up(
    counted: tuple[int, int, int, int, int], price: tuple[Decimal, Decimal, Decimal, Decimal]
) -> None:
    uncached, read, write, visible, reasoning = counted
    counts = TokenCounts(
        input_uncached=uncached,
        cache_read=read,
        cache_write=write,
        output_visible=visible,
        reasoning=reasoning,
    )
    units = UnitPrices(*(pricing.parse_price(str(each)) for each in price))
    with localcontext(prec=60):
        by_class = (uncached, read, write, visible + reasoning)
        exact = sum((count * each for count, each in zip(by_class, price, strict=True)), Decimal(0))
        expected = int(exact.to_integral_value(ROUND_CEILING))
    assert pricing.cost_micros(units, counts) == expected


@given(tokens, prices, prices, st.integers(0, 2**53 - 1))
def test_what_is_payable_can_be_held_and_one_more_token_cannot(
    prompt: int, input_price: Decimal, output_price: Decimal, micros: int
) -> None:
    per_input, per_output = pricing.parse_price(str(input_price)), pricing.parse_price(str(output_price))
    units = UnitPrices(per_input, 0, 0, per_output)
    value = prompt * per_input
    payable = pricing.output_tokens_payable(units, input_value=value, micros=micros)
    if payable is None:
        assert per_output == 0
        assert pricing.micros(value) <= micros
        return
    if payable:
        assert pricing.micros(value + payable * per_output) <= micros
    more = value + (payable + 1) * per_output
    if more <= pricing.MICROS_MAX * pricing.SCALE:
        assert per_output == 0 or pricing.micros(more) > micros or value > micros * pricing.SCALE


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", "0.0000000000001"])
def test_a_price_that_can_not_be_is_our_own_mistake(price: str) -> None:
    with pytest.raises((AssertionError, ValueError, OverflowError)):
        pricing.parse_price(price)
