import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from headrace_platform.catalog.tiny.dialogue import Asked, Replied
from headrace_platform.catalog.tiny.sums import (
    OPERAND_MAX,
    TOO_LARGE,
    held_out,
    held_out_pairs,
    steps,
    sum_exchange,
)

operands = st.integers(min_value=0, max_value=OPERAND_MAX)


def test_enough_pairs_are_held_out_to_measure_by() -> None:
    assert 500 <= len(held_out_pairs()) <= 1500


@given(a=operands, b=operands)
def test_a_pair_is_held_out_in_both_orders_or_in_none(a: int, b: int) -> None:
    assert held_out(a, b) == held_out(b, a)


@given(a=operands, b=operands)
def test_the_steps_lead_to_the_sum(a: int, b: int) -> None:
    ones, tens = (int(step.split("=")[1]) for step in steps(a, b).split(", "))

    assert 10 * tens + ones % 10 == a + b


@given(seed=st.integers(min_value=0))
def test_training_never_asks_a_held_out_sum_and_is_never_told_a_wrong_one(seed: int) -> None:
    asked, replied = sum_exchange(Random(seed))
    assert isinstance(asked, Asked)
    assert isinstance(replied, Replied)
    a, b = (int(number) for number in re.findall(r"\d+", asked.text))

    if max(a, b) > OPERAND_MAX:
        assert replied.text == TOO_LARGE
    else:
        assert replied.text == str(a + b)
        assert not held_out(a, b)
