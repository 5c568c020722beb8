"""Hours with prices of their own: data about a week somewhere, told by instants of UTC."""

from datetime import UTC, datetime

import pytest

from headrace_billing.rating.price import PriceInvalid
from headrace_billing.rating.window import HourWindow, check_windows, window_at

WORKDAYS = (0, 1, 2, 3, 4)
PEAK = HourWindow(WORKDAYS, 14 * 60, 18 * 60, 8 * 60)


def named_at(day: int, hour: int, minute: int = 0) -> str:
    return window_at({"peak": PEAK}, datetime(2026, 11, day, hour, minute, tzinfo=UTC))


def test_an_afternoon_in_utc_plus_8_is_the_morning_in_utc() -> None:
    assert [named_at(23, hour, minute) for hour, minute in ((5, 59), (6, 0), (9, 59), (10, 0))] == [
        "",
        "peak",
        "peak",
        "",
    ]


def test_the_weekday_is_that_of_the_place_and_not_of_utc() -> None:
    night = HourWindow((0,), 0, 2 * 60, 8 * 60)
    # Monday 00:30 in UTC+8 is Sunday 16:30 in UTC.
    assert window_at({"night": night}, datetime(2026, 11, 22, 16, 30, tzinfo=UTC)) == "night"
    assert window_at({"night": night}, datetime(2026, 11, 23, 16, 30, tzinfo=UTC)) == ""


@pytest.mark.parametrize(
    ("windows", "why"),
    [
        ({"a": HourWindow((0,), 600, 600, 0)}, "begin before"),
        ({"a": HourWindow((0,), 600, 630, 0)}, "whole hours"),
        ({"a": HourWindow((0,), 600, 660, 330)}, "whole hours"),
        ({"a": PEAK, "b": HourWindow((4,), 17 * 60, 19 * 60, 8 * 60)}, "overlap"),
        ({"a": PEAK, "b": HourWindow((4,), 9 * 60, 10 * 60, 0)}, "overlap"),
    ],
)
def test_windows_that_leave_a_price_open_are_refused(windows: dict[str, HourWindow], why: str) -> None:
    with pytest.raises(PriceInvalid, match=why):
        check_windows(windows)


def test_half_hours_of_a_zone_may_make_whole_hours_of_utc() -> None:
    check_windows({"a": HourWindow((6,), 9 * 60 + 30, 17 * 60 + 30, 330), "b": PEAK})
