"""Hours of the week that have prices of their own, at a fixed distance from UTC: data, such as a peak in UTC+8.

Windows begin and end on whole hours of UTC, so that hourly rollups can always be priced anew; and no two of a book
hold the same hour, so that an instant has one price.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from headrace_billing.rating.price import PriceInvalid

DAY_MINUTES = 24 * 60
WINDOWS_MAX = 20
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
HOURS_OF_WEEK = tuple(MONDAY + timedelta(hours=hour) for hour in range(7 * 24))


@dataclass(frozen=True, slots=True)
class HourWindow:
    weekdays: tuple[int, ...]
    """0 is Monday, of the local day."""
    begins_minute: int
    ends_minute: int
    """Exclusive; of the same local day."""
    utc_offset_minutes: int

    def holds(self, at: datetime) -> bool:
        local = at.astimezone(UTC) + timedelta(minutes=self.utc_offset_minutes)
        minute = local.hour * 60 + local.minute
        return local.weekday() in self.weekdays and self.begins_minute <= minute < self.ends_minute


def window_at(windows: Mapping[str, HourWindow], at: datetime) -> str:
    """The name of the window that holds the instant; empty outside of all."""
    return next((name for name, window in windows.items() if window.holds(at)), "")


def check_windows(windows: Mapping[str, HourWindow]) -> None:
    """Raises `PriceInvalid`."""
    if len(windows) > WINDOWS_MAX:
        raise PriceInvalid(f"A price book has at most {WINDOWS_MAX} windows.")
    for name, window in windows.items():
        if not 0 <= window.begins_minute < window.ends_minute <= DAY_MINUTES:
            raise PriceInvalid(f"Window {name!r} must begin before it ends, within one day.")
        if not _on_the_hour(window.begins_minute, window.ends_minute, offset=window.utc_offset_minutes):
            raise PriceInvalid(f"Window {name!r} must begin and end on whole hours of UTC.")
    for hour in HOURS_OF_WEEK:
        holding = [name for name, window in windows.items() if window.holds(hour)]
        if len(holding) > 1:
            raise PriceInvalid(f"Windows {holding[0]!r} and {holding[1]!r} overlap.")


def _on_the_hour(*minutes: int, offset: int) -> bool:
    return all((minute - offset) % 60 == 0 for minute in minutes)
