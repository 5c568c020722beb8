"""Sequences of a journal: whatever the order of arrival, what is said to be safe is safe."""

from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.ingest.journal import Received


def test_a_gap_holds_back_what_came_after_it_until_it_is_filled() -> None:
    received = Received().with_more([1, 2, 4, 5])
    assert received == Received(2, ((4, 5),))
    assert received.with_more([3]) == Received(5)


def test_a_journal_whose_beginning_is_missing_is_safe_nowhere() -> None:
    assert Received().with_more([2, 3]).contiguous == 0


@given(st.lists(st.lists(st.integers(1, 30), max_size=10), max_size=8))
def test_any_order_and_any_repetition_says_the_same_as_a_set(batches: list[list[int]]) -> None:
    received, seen = Received(), set[int]()
    for batch in batches:
        received = received.with_more(batch)
        seen.update(batch)
    contiguous = 0
    while contiguous + 1 in seen:
        contiguous += 1
    assert received.contiguous == contiguous
    above = {n for first, last in received.above for n in range(first, last + 1)}
    assert above == {n for n in seen if n > contiguous}
