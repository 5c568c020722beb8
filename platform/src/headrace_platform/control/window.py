"""Hours of the week, in a time zone: when a deployment may be upgraded, or has other bounds."""

from datetime import datetime, time
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from headrace_platform.control.words import ClockTime, TimeZone


class Day(StrEnum):
    MONDAY = "Mon"
    TUESDAY = "Tue"
    WEDNESDAY = "Wed"
    THURSDAY = "Thu"
    FRIDAY = "Fri"
    SATURDAY = "Sat"
    SUNDAY = "Sun"


WEEK = tuple(Day)


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """From `start` on each of `days` until `end`, which is on the next day where it is not later than `start`."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7, description="Days on which it begins.")]
    start: Annotated[ClockTime, Meta(description="Local time, inclusive.")]
    end: Annotated[ClockTime, Meta(description="Local time, exclusive; the next day's if not after start.")]
    time_zone: Annotated[TimeZone, Meta(description="IANA name.")] = "UTC"

    def contains(self, moment: datetime) -> bool:
        """Whether it is open. `moment` knows its zone."""
        assert moment.tzinfo is not None, "a moment without a zone is none"
        local = moment.astimezone(ZoneInfo(self.time_zone))
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        clock, today = local.time(), WEEK[local.weekday()]
        if start < end:
            return today in self.days and start <= clock < end
        yesterday = WEEK[local.weekday() - 1]
        return (today in self.days and clock >= start) or (yesterday in self.days and clock < end)
