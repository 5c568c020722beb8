"""The rules of subscriptions, without a database: what is charged and given back, whatever is done to them and when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.plans import changing
from headrace_billing.plans.period import Interval
from headrace_billing.plans.plan import PlanInvalid, Terms
from headrace_billing.plans.proration import passed
from headrace_billing.plans.subscription import (
    Event,
    InvoicesOverdue,
    NothingScheduled,
    PlanChangeInvalid,
    State,
    SubscriptionState,
    When,
)
from tests.billing.plans.terms import START, active, caught_up, plan, subscription

TERMS = st.builds(
    Terms,
    st.builds(plan, st.just("any"), st.integers(0, 10**7), seat_price_minor=st.integers(0, 10**5)),
    st.integers(1, 100),
    st.dictionaries(st.just("support"), st.integers(1, 9)),
)
SECONDS = st.integers(0, 28 * 86400 - 1)
LITE, PRO = Terms(plan("lite", 1800), 1), Terms(plan("pro", 7200), 1)
YEARLY = Terms(plan("yearly", 60_000, interval=Interval.YEAR), 1)


@given(lesser=TERMS, greater=TERMS, seconds=SECONDS)
def test_an_upgrade_and_the_way_back_at_the_same_instant_are_nothing(
    lesser: Terms, greater: Terms, seconds: int
) -> None:
    now = START + timedelta(seconds=seconds)
    before = active(lesser)
    if lesser == greater:
        return
    there = changing.change(before, greater, now=now, when=When.NOW, buy={})
    back = changing.change(there.after, lesser, now=now, when=When.NOW, buy={})
    assert there.total_minor + back.total_minor == 0
    assert (back.after.terms, back.after.period) == (before.terms, before.period)


@given(terms=st.lists(TERMS, min_size=1, max_size=6), seconds=st.lists(SECONDS, min_size=6, max_size=6))
def test_each_terms_pay_for_their_time_within_a_period_and_no_second_is_paid_twice(
    terms: list[Terms], seconds: list[int]
) -> None:
    now, total = START, sum(item.amount_minor for item in terms[0].items())
    standing = active(terms[0])
    whole, expected = standing.period, 0
    assert whole is not None
    for then, offset in zip(terms[1:], sorted(seconds), strict=False):
        if then == standing.terms:
            continue
        until = START + timedelta(seconds=offset)
        expected += _worth(standing.terms, now, until)
        step = changing.change(standing, then, now=until, when=When.NOW, buy={})
        total += step.total_minor
        standing, now = step.after, until
    assert total == expected + _worth(standing.terms, now, whole.end)


def _worth(terms: Terms, since: datetime, until: datetime) -> int:
    whole = active(terms).period
    assert whole is not None
    return sum(
        passed(item.amount_minor, whole, until) - passed(item.amount_minor, whole, since)
        for item in terms.items()
    )


@given(seconds=SECONDS)
def test_ending_it_now_with_the_rest_back_charges_what_was_used_to_the_second(seconds: int) -> None:
    now, before = START + timedelta(seconds=seconds), active(Terms(plan(), 3, {"support": 2}))
    step = changing.cancel(before, now=now, when=When.NOW, give_rest_back=True)
    whole = sum(item.amount_minor for item in before.terms.items())
    assert whole + step.total_minor == _worth(before.terms, START, now)
    assert changing.cancel(before, now=now, when=When.NOW, give_rest_back=False).lines == ()


def test_a_dearer_plan_begins_now_and_a_cheaper_one_with_the_next_period() -> None:
    now = START + timedelta(days=10)
    up = changing.change(active(LITE), PRO, now=now, when=None, buy={})
    # 18 of 28 days are left: of $72.00 less of $18.00.
    assert [(line.item, line.amount_minor) for line in up.lines] == [("plan", -1157), ("plan", 4629)]
    down = changing.change(active(PRO), LITE, now=now, when=None, buy={})
    assert (down.event, down.lines, down.after.terms) == (Event.PLANNED, (), PRO)
    standing, (renewed,) = caught_up(down.after, datetime(2026, 2, 28, 9, 30, tzinfo=UTC))
    assert (standing.terms, renewed.total_minor, standing.planned) == (LITE, 1800, None)


def test_another_interval_begins_anew_and_gives_back_what_is_left_of_the_old_one() -> None:
    now = START + timedelta(days=14)
    step = changing.change(active(LITE), YEARLY, now=now, when=None, buy={})
    assert [(line.amount_minor, line.span.start) for line in step.lines] == [(-900, now), (60_000, now)]
    assert step.after.period is not None
    assert step.after.period.end == now.replace(year=2027)


def test_more_seats_are_charged_for_the_rest_and_what_costs_the_same_is_left_alone() -> None:
    before = active(Terms(plan(), 3, {"support": 1}))
    more = replace(before.terms, seats=5)
    step = changing.change(before, more, now=START + timedelta(days=14), when=None, buy={"setup": 2})
    assert [(line.item, line.quantity, line.amount_minor) for line in step.lines] == [
        ("seats", 2, -1500),
        ("seats", 4, 3000),
        ("once.setup", 2, 10_000),
    ]


def test_a_job_that_comes_late_makes_up_for_each_period_once() -> None:
    standing, steps = caught_up(subscription(LITE), datetime(2026, 5, 1, tzinfo=UTC))
    assert [step.at.date().isoformat() for step in steps] == [
        "2026-01-31",
        "2026-02-28",
        "2026-03-31",
        "2026-04-30",
    ]
    assert [step.total_minor for step in steps] == [1800] * 4
    assert caught_up(standing, datetime(2026, 5, 1, tzinfo=UTC))[1] == []


@given(days=st.lists(st.integers(0, 90), min_size=1, max_size=12), trial=st.integers(0, 20))
def test_many_looks_charge_what_one_look_at_the_end_charges(days: list[int], trial: int) -> None:
    begun = subscription(Terms(plan(trial_days=trial), 2))
    standing, steps, now = begun, [], START
    for passed_days in days:
        now += timedelta(days=passed_days)
        standing, further = caught_up(standing, now)
        steps += further
    assert (standing, steps) == caught_up(begun, now)


def test_a_trial_costs_nothing_and_its_end_is_where_periods_are_counted_from() -> None:
    terms = Terms(plan(trial_days=14), 1)
    trialing, (started,) = caught_up(subscription(terms), START)
    assert (trialing.state, started.lines) == (State.TRIALING, ())
    standing, (renewed,) = caught_up(trialing, START + timedelta(days=14))
    assert (standing.state, standing.anchor, renewed.total_minor) == (
        State.ACTIVE,
        START + timedelta(days=14),
        7200,
    )
    cancelled = changing.cancel(trialing, now=START + timedelta(days=3), when=When.NOW, give_rest_back=True)
    assert (cancelled.after.state, cancelled.lines) == (State.CANCELLED, ())


def test_what_is_planned_happens_at_the_end_unless_it_is_undone() -> None:
    now, later = START + timedelta(days=1), START + timedelta(days=40)
    leaving = changing.cancel(active(), now=now, when=When.PERIOD_END, give_rest_back=False).after
    standing, (step,) = caught_up(leaving, later)
    assert (standing.state, step.lines, standing.ended_at) == (
        State.CANCELLED,
        (),
        datetime(2026, 2, 28, 9, 30, tzinfo=UTC),
    )
    staying = changing.undo(leaving, now=now).after
    assert caught_up(staying, later)[0].state is State.ACTIVE
    with pytest.raises(NothingScheduled):
        changing.undo(staying, now=now)


def test_a_pause_charges_nothing_until_a_new_period_begins_with_the_resumption() -> None:
    paused = changing.pause(active(), now=START + timedelta(days=14), when=When.NOW, give_rest_back=True)
    assert paused.total_minor == -3600
    later = START + timedelta(days=100)
    assert caught_up(paused.after, later) == (paused.after, [])
    resumed = changing.resume(paused.after, now=later, overdue=False)
    assert (resumed.total_minor, resumed.after.anchor) == (7200, later)


def test_without_service_nothing_is_charged_ahead() -> None:
    step = changing.follow_service(active(), now=START + timedelta(days=2), overdue=True)
    assert step is not None
    assert step.after.state is State.PAST_DUE
    assert changing.follow_service(step.after, now=START, overdue=True) is None
    standing, (halted,) = caught_up(step.after, START + timedelta(days=60))
    assert (standing.state, halted.lines) == (State.PAUSED, ())
    with pytest.raises(InvoicesOverdue):
        changing.resume(standing, now=START + timedelta(days=60), overdue=True)
    recovered = changing.follow_service(step.after, now=START + timedelta(days=3), overdue=False)
    assert recovered is not None
    assert recovered.after.state is State.ACTIVE


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        (LITE, PlanChangeInvalid),
        (replace(LITE, seats=101), PlanInvalid),
        (replace(LITE, add_ons={"setup": 1}), PlanInvalid),
        (replace(LITE, add_ons={"unknown": 1}), PlanInvalid),
        (Terms(plan("euro", currency="EUR"), 1), PlanChangeInvalid),
    ],
)
def test_terms_that_are_no_change_are_refused(terms: Terms, error: type[Exception]) -> None:
    with pytest.raises(error):
        changing.change(active(LITE), terms, now=START, when=None, buy={})


def test_what_is_paused_or_over_is_not_changed() -> None:
    for state in (State.PAUSED, State.CANCELLED, State.PAST_DUE):
        before = replace(active(LITE), state=state)
        with pytest.raises(SubscriptionState):
            changing.change(before, PRO, now=START, when=None, buy={})
        with pytest.raises(SubscriptionState):
            changing.pause(before, now=START, when=When.NOW, give_rest_back=False)
