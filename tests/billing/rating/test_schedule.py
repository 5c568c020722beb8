"""Prices of every kind: what a cumulative quantity costs, and that a hold by the ceiling rate is never too small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.rating.definition import schedule_of, written_schedule
from headrace_billing.rating.price import ATTOS_PER_NANO, PriceInvalid, parse_price
from headrace_billing.rating.schedule import (
    Schedule,
    ScheduleKind,
    Tier,
    charge_nanos,
)
from tests.billing.rating.schedules import schedules

quantities = st.integers(0, 10**7)
BORDER = 1_000_000


def tiers(kind: str, *prices: str, border: int = BORDER) -> Schedule:
    first, rest = prices
    written = [{"up_to": border, "price": first}, {"price": rest}]
    return schedule_of({"kind": kind, "tiers": written})


@given(schedules(), quantities, st.integers(0, 10**6))
def test_no_token_adds_more_than_the_rate_that_gateways_hold_by(
    schedule: Schedule, before: int, tokens: int
) -> None:
    added = charge_nanos(before + tokens, schedule) - charge_nanos(before, schedule)
    # Each of the two charges is rounded by at most half a nano-unit.
    assert added * ATTOS_PER_NANO <= tokens * schedule.ceiling_rate + ATTOS_PER_NANO


@given(schedules(), st.lists(st.integers(0, 10**6), max_size=20), st.booleans())
def test_however_a_quantity_is_reached_what_was_billed_for_it_is_one_charge(
    schedule: Schedule, steps: list[int], closed: bool
) -> None:
    billed, reached = 0, 0
    for step in steps:
        reached += step
        billed += charge_nanos(reached, schedule, closed=closed) - billed
    assert billed == charge_nanos(sum(steps), schedule, closed=closed)


@given(schedules())
def test_a_schedule_survives_being_written_and_read(schedule: Schedule) -> None:
    assert written_schedule(schedule_of(written_schedule(schedule))) == written_schedule(schedule)


def test_graduated_tiers_meet_without_a_jump() -> None:
    schedule = tiers("graduated", "1", "0.5")
    at = charge_nanos(BORDER, schedule)
    assert at == 1_000_000_000
    assert charge_nanos(BORDER - 1, schedule) == at - 1_000
    assert charge_nanos(BORDER + 1, schedule) == at + 500


@given(st.integers(1, 10**6), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_border_costs_the_same_from_both_sides(border: int, low: int, high: int) -> None:
    graduated = Schedule(ScheduleKind.GRADUATED, (Tier(border, low), Tier(None, high)))
    one_price = Schedule(ScheduleKind.GRADUATED, (Tier(None, low),))
    assert charge_nanos(border, graduated) == charge_nanos(border, one_price)


def test_a_volume_price_reached_reprices_what_came_before() -> None:
    schedule = tiers("volume", "1", "0.5")
    before, after = charge_nanos(BORDER, schedule), charge_nanos(BORDER + 1, schedule)
    assert (before, after) == (1_000_000_000, 500_000_500)


def test_a_begun_package_is_charged_by_the_token_until_the_close_rounds_it_up() -> None:
    schedule = schedule_of({"kind": "package", "price": "0.60", "package_tokens": 1000})
    assert charge_nanos(1500, schedule) == 900_000_000
    assert charge_nanos(1500, schedule, closed=True) == 1_200_000_000
    assert charge_nanos(2000, schedule, closed=True) == charge_nanos(2000, schedule) == 1_200_000_000
    assert charge_nanos(0, schedule, closed=True) == 0


def test_a_minimum_is_charged_at_the_close_and_only_for_what_was_used_at_all() -> None:
    schedule = schedule_of({"kind": "flat", "price": "1", "minimum_charge": "5"})
    assert charge_nanos(BORDER, schedule) == 1_000_000_000
    assert charge_nanos(BORDER, schedule, closed=True) == 5_000_000_000
    assert charge_nanos(7 * BORDER, schedule, closed=True) == 7_000_000_000
    assert charge_nanos(0, schedule, closed=True) == 0


def test_a_maximum_holds_from_the_first_token_that_would_pass_it() -> None:
    schedule = schedule_of({"kind": "flat", "price": "1", "maximum_charge": "5"})
    assert charge_nanos(9 * BORDER, schedule) == charge_nanos(9 * BORDER, schedule, closed=True) == 5 * 10**9


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({"kind": "graduated", "tiers": [{"up_to": 10, "price": "1"}]}, "last tier"),
        (
            {
                "kind": "graduated",
                "tiers": [{"up_to": 9, "price": "1"}, {"up_to": 9, "price": "1"}, {"price": "1"}],
            },
            "overlap",
        ),
        ({"kind": "graduated", "tiers": [{"price": "1"}, {"price": "1"}]}, "last tier"),
        ({"kind": "volume", "tiers": [{"up_to": 9, "price": "1"}, {"price": "2"}]}, "must not rise"),
        ({"kind": "flat", "tiers": [{"up_to": 9, "price": "1"}, {"price": "1"}]}, "one price"),
        ({"kind": "flat"}, "no plain decimal"),
        ({"kind": "flat", "price": "1", "package_tokens": 1000}, "package_tokens"),
        ({"kind": "package", "price": "1"}, "package_tokens"),
        ({"kind": "package", "price": "1", "package_tokens": 300}, "no exact price"),
        ({"kind": "flat", "price": "1", "minimum_charge": "5", "maximum_charge": "4"}, "above the maximum"),
    ],
)
def test_a_price_that_can_not_be_is_refused_with_its_reason(written: dict[str, object], why: str) -> None:
    with pytest.raises(PriceInvalid, match=why):
        schedule_of(written)


def test_a_multiplied_price_keeps_its_amounts() -> None:
    schedule = schedule_of({"kind": "flat", "price": "1.4", "minimum_charge": "5"})
    assert written_schedule(schedule.times(parse_price("0.5"))) == {
        "kind": "flat",
        "price": "0.7",
        "minimum_charge": "5.00",
    }


def test_a_product_that_would_have_to_be_rounded_is_refused() -> None:
    with pytest.raises(PriceInvalid, match="more than 12 places"):
        schedule_of("0.000000000001").times(parse_price("0.5"))
    halved = schedule_of("0.000000000002").times(parse_price("0.5"))
    assert written_schedule(halved) == "0.000000000001"
