"""Bounds by the hour, and windows that end on the next day."""

from datetime import UTC, datetime

import pytest

from headrace_platform.control.window import Day, Window
from tests.platform.control.examples import deployment

MONDAY_NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SUNDAY_NOON = datetime(2026, 1, 4, 12, tzinfo=UTC)


def test_an_open_schedule_takes_the_place_of_the_bounds() -> None:
    scaling = deployment("dedicated").spec.scaling
    assert (scaling.at(SUNDAY_NOON).min_replicas, scaling.at(SUNDAY_NOON).max_replicas) == (1, 2)
    assert (scaling.at(MONDAY_NOON).min_replicas, scaling.at(MONDAY_NOON).max_replicas) == (2, 2)


def test_what_it_may_ever_have_counts_every_schedule() -> None:
    hours = {"days": ["Mon"], "start": "08:00", "end": "09:00"}
    schedule = {"name": "rush", "window": hours, "minReplicas": 1, "maxReplicas": 7}
    scaling = deployment("dedicated", {"scaling.schedules": [schedule]}).spec.scaling
    assert scaling.replicas_most == 7


def test_what_it_may_ever_have_is_the_same_at_every_hour() -> None:
    night = {"days": ["Sun"], "start": "08:00", "end": "20:00"}
    schedule = {"name": "night", "window": night, "minReplicas": 1, "maxReplicas": 2}
    scaling = deployment(
        "dedicated", {"scaling.schedules": [schedule], "scaling.maxReplicas": 90}
    ).spec.scaling
    assert scaling.at(SUNDAY_NOON).max_replicas == 2
    assert scaling.at(SUNDAY_NOON).replicas_most == scaling.at(MONDAY_NOON).replicas_most == 90


def test_a_deployment_that_goes_to_zero_keeps_none() -> None:
    scaling = deployment("dedicated", {"scaling.scaleToZeroAfterSeconds": 600}).spec.scaling
    assert scaling.replicas_least == 0


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        (datetime(2026, 1, 9, 21, 59, tzinfo=UTC), False),  # Friday
        (datetime(2026, 1, 9, 22, 0, tzinfo=UTC), True),
        (datetime(2026, 1, 10, 5, 59, tzinfo=UTC), True),  # Saturday, Friday's window still
        (datetime(2026, 1, 10, 6, 0, tzinfo=UTC), False),
        (datetime(2026, 1, 10, 22, 30, tzinfo=UTC), False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(
    moment: datetime, *, is_open: bool
) -> None:
    assert Window(days=(Day.FRIDAY,), start="22:00", end="06:00").contains(moment) is is_open


def test_a_window_knows_its_own_clock() -> None:
    berlin = Window(days=(Day.MONDAY,), start="08:00", end="09:00", time_zone="Europe/Berlin")
    assert berlin.contains(datetime(2026, 7, 6, 6, 30, tzinfo=UTC))
    assert not berlin.contains(datetime(2026, 7, 6, 8, 30, tzinfo=UTC))


def test_whoever_scales_from_outside_stays_within_the_bounds_of_the_hour() -> None:
    outside = {"scaling.mode": "external", "scaling.replicas": 1}
    scaling = deployment("dedicated", outside).spec.scaling
    assert scaling.at(SUNDAY_NOON).replicas_fixed == 1
    assert scaling.at(MONDAY_NOON).replicas_fixed == 2
    assert deployment("dedicated", {"scaling.mode": "external"}).spec.scaling.replicas_fixed == 1
