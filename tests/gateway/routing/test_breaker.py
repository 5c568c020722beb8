"""A circuit breaker, whatever order successes, failures and time come in."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace_gateway.errors import UpstreamUnavailable
from headrace_gateway.routing.breaker import (
    FAILURES_IN_A_ROW,
    OUTCOMES,
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_MIN,
    Breakers,
    RetryBudget,
)
from tests.gateway.account import DEPLOYMENT


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breakers, Clock]:
    clock = Clock()
    breakers = Breakers(clock)
    for _ in range(FAILURES_IN_A_ROW):
        breakers.begin(DEPLOYMENT)
        breakers.fail(DEPLOYMENT)
    return breakers, clock


def test_failures_in_a_row_open_it_until_one_request_succeeds_after_the_pause() -> None:
    breakers, clock = opened()
    assert not breakers.allows(DEPLOYMENT)
    with pytest.raises(UpstreamUnavailable) as refused:
        breakers.begin(DEPLOYMENT)
    assert refused.value.retry_after_seconds == PAUSE_SECONDS_MIN

    clock.now += PAUSE_SECONDS_MIN
    assert breakers.allows(DEPLOYMENT)
    breakers.begin(DEPLOYMENT)
    assert not breakers.allows(DEPLOYMENT), "a second request while the first finds out"
    breakers.succeed(DEPLOYMENT)
    assert breakers.allows(DEPLOYMENT)


def test_each_failed_trial_doubles_the_pause_up_to_its_bound() -> None:
    breakers, clock = opened()
    for round_ in range(10):
        pause = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2**round_)
        clock.now += 0.79 * pause
        assert not breakers.allows(DEPLOYMENT)
        clock.now += 0.21 * pause
        breakers.begin(DEPLOYMENT)
        breakers.fail(DEPLOYMENT)


def test_a_trial_that_ends_for_another_reason_leaves_the_next_one_free() -> None:
    breakers, clock = opened()
    clock.now += PAUSE_SECONDS_MIN
    breakers.begin(DEPLOYMENT)
    breakers.abandon(DEPLOYMENT)
    assert breakers.allows(DEPLOYMENT)


def test_half_of_the_latest_requests_failing_open_it_though_never_many_in_a_row() -> None:
    breakers = Breakers(Clock())
    for number in range(OUTCOMES):
        assert breakers.allows(DEPLOYMENT)
        (breakers.fail if number % 2 == 0 else breakers.succeed)(DEPLOYMENT)
    breakers.fail(DEPLOYMENT)
    assert not breakers.allows(DEPLOYMENT)


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
            self.breakers.begin(DEPLOYMENT)
            self.under_way += 1
            return
        with pytest.raises(UpstreamUnavailable) as refused:
            self.breakers.begin(DEPLOYMENT)
        assert PAUSE_SECONDS_MIN <= refused.value.retry_after_seconds <= PAUSE_SECONDS_MAX

    @rule(outcome=st.sampled_from(["succeed", "fail", "fail", "abandon"]))
    def end(self, outcome: str) -> None:
        if self.under_way:
            self.under_way -= 1
            getattr(self.breakers, outcome)(DEPLOYMENT)
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
