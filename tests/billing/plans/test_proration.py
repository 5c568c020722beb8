"""Parts of an amount by time: whatever the split, they add up to the whole."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.invoicing.usage import Span
from headrace_billing.plans.period import Interval, begins, period
from headrace_billing.plans.proration import left, passed

# Whole seconds of a few decades, leap years and the century's last day among them.
INSTANTS = st.integers(0, 40 * 366 * 86400).map(
    lambda seconds: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
AMOUNTS = st.integers(0, 10**12)
PERIODS = st.builds(period, INSTANTS, st.sampled_from(Interval), st.integers(0, 30))


@given(amount=AMOUNTS, whole=PERIODS, cuts=st.lists(st.floats(0, 1), max_size=12))
def test_the_parts_of_any_split_of_a_period_add_up_to_its_amount(
    amount: int, whole: Span, cuts: list[float]
) -> None:
    seconds = int((whole.end - whole.start).total_seconds())
    instants = sorted(
        {whole.start, whole.end} | {whole.start + timedelta(seconds=int(cut * seconds)) for cut in cuts}
    )
    parts = [
        passed(amount, whole, later) - passed(amount, whole, earlier) for earlier, later in pairwise(instants)
    ]
    assert sum(parts) == amount
    # Each is the exact part, rounded at either end.
    for part, (earlier, later) in zip(parts, pairwise(instants), strict=True):
        exact = amount * int((later - earlier).total_seconds()) / seconds
        assert abs(part - exact) <= 1 + amount * 1e-12


@given(amount=AMOUNTS, whole=PERIODS, at=INSTANTS)
def test_what_has_passed_and_what_is_left_are_the_whole(amount: int, whole: Span, at: datetime) -> None:
    assert passed(amount, whole, at) + left(amount, whole, at) == amount
    assert 0 <= passed(amount, whole, at) <= amount


def test_a_half_is_rounded_away_from_zero_once() -> None:
    day = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC))
    noon = datetime(2026, 11, 2, tzinfo=UTC)
    assert (passed(5, day, noon), left(5, day, noon)) == (3, 2)
    assert (passed(-5, day, noon), left(-5, day, noon)) == (-3, -2)


def test_a_month_that_lacks_the_day_ends_on_its_last_one_and_moves_no_later_one() -> None:
    anchor = datetime(2027, 10, 31, 23, 59, 59, tzinfo=UTC)
    days = [begins(anchor, Interval.MONTH, number).date().isoformat() for number in range(7)]
    assert days == [
        "2027-10-31",
        "2027-11-30",
        "2027-12-31",
        "2028-01-31",
        "2028-02-29",
        "2028-03-31",
        "2028-04-30",
    ]
    leap = datetime(2028, 2, 29, tzinfo=UTC)
    years = [begins(leap, Interval.YEAR, number).date().isoformat() for number in range(5)]
    assert years == ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]


@given(anchor=INSTANTS, interval=st.sampled_from(Interval), number=st.integers(0, 60))
def test_periods_follow_each_other_without_gap(anchor: datetime, interval: Interval, number: int) -> None:
    assert period(anchor, interval, number).end == period(anchor, interval, number + 1).start
    assert begins(anchor, interval, number).time() == anchor.time()
