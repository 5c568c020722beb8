"""A run can be had again: its plan is a function of seed and length."""

import itertools

from tests.chaos.schedule import SHORT, Kind, Trouble, plan


def test_the_same_seed_is_the_same_plan_and_another_is_another() -> None:
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60).faults != plan(8, 60).faults
    assert plan(7, 60).visits != plan(8, 60).visits


def test_three_minutes_have_every_kind_of_fault_at_least_once() -> None:
    for seed in range(20):
        assert {fault.kind for fault in plan(seed, 180).faults} == set(Kind)


def test_faults_begin_in_order_and_are_over_while_there_is_still_traffic() -> None:
    for seed in range(20):
        planned = plan(seed, 90)
        moments = [fault.at_seconds for fault in planned.faults]
        assert moments == sorted(moments)
        assert max(fault.ends_seconds for fault in planned.faults) < max(
            visit.at_seconds for visit in planned.visits
        )


def test_some_faults_meet_and_most_do_not() -> None:
    faults = plan(1, 600).faults
    meeting = sum(later.at_seconds < earlier.ends_seconds for earlier, later in itertools.pairwise(faults))
    assert 0 < meeting < len(faults) / 2


def test_traffic_has_all_sorts_of_clients_and_engines() -> None:
    visits = plan(1, 120).visits
    assert {visit.trouble for visit in visits} == {None, *Trouble}
    assert {visit.streamed for visit in visits} == {visit.slow_reader for visit in visits} == {True, False}
    # Whoever hangs up does so after any number of frames, none and the very last among them.
    left = [visit for visit in visits if visit.hang_up_after is not None]
    assert any(visit.hang_up_after == 0 for visit in left)
    assert any(visit.hang_up_after == visit.tokens + 2 for visit in left)


def test_the_short_form_has_the_main_kinds_one_after_the_other() -> None:
    faults = plan(1, 32, short=True).faults
    assert [(fault.kind, fault.lasts_seconds) for fault in faults] == list(SHORT)
    assert all(one.ends_seconds < other.at_seconds for one, other in itertools.pairwise(faults))
    assert plan(2, 32, short=True).faults != faults
