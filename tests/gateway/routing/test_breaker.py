"""A circuit breaker, whatever order successes, failures and time come in."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace_gateway.errors import UpstreamUnavailable
from headrace_gateway.routing.breaker import (
    FAILURES_IN_A_ROW,
    NOBODY,
    ORGS_OWN_MAX,
    OUTCOMES,
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_MIN,
    Breakers,
    RetryBudget,
)
from tests.gateway.account import DEPLOYMENT

A, B = "org_a", "org_b"
ORGS = st.sampled_from([A, B, "org_c", "org_d"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breakers, Clock]:
    clock = Clock()
    breakers = Breakers(clock)
    for _ in range(FAILURES_IN_A_ROW):
        breakers.begin(DEPLOYMENT, A)
        breakers.fail(DEPLOYMENT, A)
    return breakers, clock


def test_failures_in_a_row_open_it_until_one_request_succeeds_after_the_pause() -> None:
    breakers, clock = opened()
    assert not breakers.allows(DEPLOYMENT)
    with pytest.raises(UpstreamUnavailable) as refused:
        breakers.begin(DEPLOYMENT, A)
    assert refused.value.retry_after_seconds == PAUSE_SECONDS_MIN

    clock.now += PAUSE_SECONDS_MIN
    assert breakers.allows(DEPLOYMENT)
    breakers.begin(DEPLOYMENT, A)
    assert not breakers.allows(DEPLOYMENT), "a second request while the first finds out"
    breakers.succeed(DEPLOYMENT, A)
    assert breakers.allows(DEPLOYMENT)


def test_each_failed_trial_doubles_the_pause_up_to_its_bound() -> None:
    breakers, clock = opened()
    for round_ in range(10):
        pause = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2**round_)
        clock.now += 0.79 * pause
        assert not breakers.allows(DEPLOYMENT)
        clock.now += 0.21 * pause
        breakers.begin(DEPLOYMENT, A)
        breakers.fail(DEPLOYMENT, A)


def test_a_trial_that_ends_for_another_reason_leaves_the_next_one_free() -> None:
    breakers, clock = opened()
    clock.now += PAUSE_SECONDS_MIN
    breakers.begin(DEPLOYMENT, A)
    breakers.abandon(DEPLOYMENT, A)
    assert breakers.allows(DEPLOYMENT)


def test_half_of_the_latest_requests_failing_open_it_though_never_many_in_a_row() -> None:
    breakers = Breakers(Clock())
    for number in range(OUTCOMES):
        assert breakers.allows(DEPLOYMENT)
        (breakers.fail if number % 2 == 0 else breakers.succeed)(DEPLOYMENT, A)
    breakers.fail(DEPLOYMENT, A)
    assert not breakers.allows(DEPLOYMENT)


@given(st.lists(st.tuples(st.sampled_from(["fail_for", "abandon"]), st.floats(0, 70)), max_size=100))
def test_no_organisation_s_own_errors_take_a_deployment_away(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    breakers = Breakers(clock)
    for outcome, seconds in steps:
        breakers.begin(DEPLOYMENT, A)
        getattr(breakers, outcome)(DEPLOYMENT, A)
        assert breakers.allows(DEPLOYMENT)
        assert not breakers.disfavours(DEPLOYMENT, B)
        clock.now += seconds


@given(st.lists(st.sampled_from(["its errors", "another's success"]), max_size=100))
def test_nor_do_they_between_the_successes_of_others(steps: list[str]) -> None:
    breakers = Breakers(Clock())
    for step in steps:
        if step == "its errors":
            for _ in range(OUTCOMES):
                breakers.fail_for(DEPLOYMENT, A)
        else:
            breakers.succeed(DEPLOYMENT, B)
        assert breakers.allows(DEPLOYMENT)


@given(st.lists(st.one_of(ORGS, st.just(NOBODY)), max_size=30), st.randoms())
def test_errors_in_a_row_open_it_from_the_fifth_once_two_are_not_of_the_organisation_with_the_most(
    orgs: list[str], random: Random
) -> None:
    random.shuffle(orgs)
    breakers, failed = Breakers(Clock()), Counter[str]()
    for org in orgs:
        failed[org] += 1
        if org == NOBODY:
            breakers.fail(DEPLOYMENT, random.choice([A, B]))
        else:
            breakers.fail_for(DEPLOYMENT, org)
        most = max([count for each, count in failed.items() if each != NOBODY], default=0)
        several = failed.total() - most >= FAILURES_IN_A_ROW // 2
        assert breakers.allows(DEPLOYMENT) != (several and failed.total() >= FAILURES_IN_A_ROW)
        if not breakers.allows(DEPLOYMENT):
            return


@pytest.mark.parametrize("orgs", [2, 3, 5, 20])
def test_an_engine_that_answers_everybody_with_an_error_is_left_alone_from_the_fifth_request(
    orgs: int,
) -> None:
    breakers = Breakers(Clock())
    for number in range(FAILURES_IN_A_ROW):
        assert breakers.allows(DEPLOYMENT)
        breakers.fail_for(DEPLOYMENT, f"org_{number % orgs}")
    assert not breakers.allows(DEPLOYMENT)


def test_half_of_the_latest_requests_failing_several_organisations_open_it() -> None:
    breakers = Breakers(Clock())
    for number in range(OUTCOMES):
        assert breakers.allows(DEPLOYMENT)
        (breakers.succeed if number % 2 else breakers.fail_for)(DEPLOYMENT, (A, B)[number % 4 // 2])
    breakers.fail_for(DEPLOYMENT, A)
    assert not breakers.allows(DEPLOYMENT)


def test_an_engine_that_answers_again_is_open_to_all_though_the_first_to_ask_gets_an_error() -> None:
    breakers, clock = opened()
    clock.now += PAUSE_SECONDS_MIN
    breakers.begin(DEPLOYMENT, A)
    breakers.fail_for(DEPLOYMENT, A)
    assert breakers.allows(DEPLOYMENT)

    # And is left alone for longer if it fails all of them.
    for org in (A, A, B, B):
        breakers.begin(DEPLOYMENT, org)
        breakers.fail_for(DEPLOYMENT, org)
    assert not breakers.allows(DEPLOYMENT)
    clock.now += 1.5 * PAUSE_SECONDS_MIN
    assert not breakers.allows(DEPLOYMENT)


def test_errors_in_a_row_make_a_deployment_the_last_choice_of_the_organisation_alone() -> None:
    clock = Clock()
    breakers = Breakers(clock)
    for _ in range(FAILURES_IN_A_ROW):
        assert not breakers.disfavours(DEPLOYMENT, A)
        breakers.begin(DEPLOYMENT, A)
        breakers.fail_for(DEPLOYMENT, A)
    assert breakers.disfavours(DEPLOYMENT, A)
    assert not breakers.disfavours(DEPLOYMENT, B)
    clock.now += PAUSE_SECONDS_MIN
    assert not breakers.disfavours(DEPLOYMENT, A)
    breakers.begin(DEPLOYMENT, A)
    assert breakers.disfavours(DEPLOYMENT, A), "one request finds out"
    breakers.succeed(DEPLOYMENT, A)
    assert not breakers.disfavours(DEPLOYMENT, A)


def test_what_is_known_of_single_organisations_is_bounded() -> None:
    breakers = Breakers(Clock())
    for number in range(ORGS_OWN_MAX + 10):
        for _ in range(FAILURES_IN_A_ROW):
            breakers.fail_for(DEPLOYMENT, f"org_{number}")
    known = [breakers.disfavours(DEPLOYMENT, f"org_{number}") for number in range(ORGS_OWN_MAX + 10)]
    assert known == [False] * 10 + [True] * ORGS_OWN_MAX


class Interleavings(RuleBasedStateMachine):
    """Requests that begin, and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breakers = Breakers(self.clock)
        self.under_way = 0
        self.open = False

    @rule()
    def begin(self) -> None:
        if self.breakers.allows(DEPLOYMENT):
            self.breakers.begin(DEPLOYMENT, A)
            self.under_way += 1
            return
        with pytest.raises(UpstreamUnavailable) as refused:
            self.breakers.begin(DEPLOYMENT, A)
        assert PAUSE_SECONDS_MIN <= refused.value.retry_after_seconds <= PAUSE_SECONDS_MAX

    @rule(outcome=st.sampled_from(["succeed", "fail", "fail_for", "abandon"]), org=ORGS)
    def end(self, outcome: str, org: str) -> None:
        if self.under_way:
            self.under_way -= 1
            getattr(self.breakers, outcome)(DEPLOYMENT, org)
            if outcome == "succeed":
                assert self.breakers.allows(DEPLOYMENT)

    @rule(seconds=st.floats(0, 70))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def it_is_never_closed_for_good(self) -> None:
        if not self.under_way:
            self.clock.now += PAUSE_SECONDS_MAX
            assert self.breakers.allows(DEPLOYMENT)
            self.clock.now -= PAUSE_SECONDS_MAX


TestInterleavings: Any = Interleavings.TestCase


def test_retries_are_a_share_of_the_requests_however_many_fail() -> None:
    budget = RetryBudget()
    retried = 0
    for _ in range(1000):
        budget.deposit()
        retried += budget.spend()
    assert retried <= 1000 * RetryBudget.SHARE + RetryBudget.SAVED_MAX


def test_tries_at_the_deployment_that_failed_leave_something_for_those_at_others() -> None:
    budget = RetryBudget()
    while budget.spend_at_the_same():
        pass
    elsewhere = 0
    while budget.spend():
        elsewhere += 1
    assert elsewhere == RetryBudget.SAVED_MAX / 2
    assert not budget.spend_at_the_same()
