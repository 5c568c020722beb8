"""What rounds come to, and what a soak says of memory."""

import pytest
from benchmarks.gateway.rounds import medians, quantile, ratio
from benchmarks.gateway.soak import growth
from hypothesis import given
from hypothesis import strategies as st


def test_a_ratio_is_of_windows_of_the_same_round() -> None:
    # The machine was twice as slow in the second round, for both.
    ours = [{"cpu": 30.0}, {"cpu": 60.0}, {"cpu": 33.0}]
    theirs = [{"cpu": 10.0}, {"cpu": 20.0}, {"cpu": 10.0}]
    assert ratio(ours, theirs, "cpu") == {"median": 3.0, "rounds": [3.0, 3.0, 3.3]}


def test_one_strange_round_does_not_change_what_is_told() -> None:
    assert medians([{"cpu": 10.0}, {"cpu": 500.0}, {"cpu": 11.0}]) == {"cpu": 11.0}


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_that_occurred_and_splits_the_others(values: list[float], part: float) -> None:
    found = quantile(values, part)
    assert found in values
    assert sum(value < found for value in values) <= part * len(values)


def test_memory_that_grows_steadily_is_told_by_the_hour() -> None:
    samples = [(float(at), 50 + at / 3600, 30.0) for at in range(0, 600, 2)]
    found = growth(samples)
    assert found["rss_slope_mib_per_hour"] == pytest.approx(1.0)
    assert found["rss_last_third_mib"] > found["rss_first_third_mib"]
    assert found["pss_slope_mib_per_hour"] == 0
    assert found["pss_first_third_mib"] == found["pss_last_third_mib"] == 30


def test_what_a_worker_takes_at_its_start_is_no_growth() -> None:
    starting = [(float(at), 20.0 + at, 20.0 + at) for at in range(30)]
    steady = [(float(at), 50.0, 50.0) for at in range(30, 300)]
    assert growth(starting + steady)["rss_slope_mib_per_hour"] == 0
