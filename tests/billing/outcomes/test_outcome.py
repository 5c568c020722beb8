"""The moves of an outcome: exactly those that the table names, whoever asks."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from headrace_billing.outcomes.outcome import (
    BILLABLE,
    EXITS,
    NEXT,
    AcceptanceRule,
    AcceptedAs,
    Due,
    ObserverGrade,
    ObserverInsufficient,
    OutcomeStatus,
    OutcomeTransitionIllegal,
    Windows,
    advance,
    due,
)
from headrace_billing.outcomes.outcome_type import AcceptanceRuleInvalid, rule_of

S = OutcomeStatus
T0 = datetime(2026, 11, 23, 12, tzinfo=UTC)
WINDOWS = Windows()


@pytest.mark.parametrize(("current", "to"), list(product(S, S)))
def test_every_move_is_either_in_the_table_or_refused_with_its_code(current: S, to: S) -> None:
    if to in NEXT[current]:
        assert advance("outcome_1", current, to) is to
    else:
        with pytest.raises(OutcomeTransitionIllegal, match=f"outcome_1 is {current}") as refused:
            advance("outcome_1", current, to)
        assert refused.value.code == "outcome_transition_illegal"


def test_nothing_becomes_billable_but_what_was_verified() -> None:
    ways_in = {current for current in S if current not in BILLABLE and NEXT[current] & BILLABLE}
    assert ways_in == {S.VERIFIED}


def test_an_exit_is_for_ever_and_what_is_billed_can_only_be_reversed() -> None:
    assert all(not NEXT[status] for status in {*EXITS, S.REVERSED})
    assert all(S.REVERSED in NEXT[status] and not NEXT[status] & EXITS for status in BILLABLE)


@pytest.mark.parametrize("grade", [ObserverGrade.PLATFORM, ObserverGrade.AGENT])
def test_neither_the_platform_nor_an_agent_confirms(grade: ObserverGrade) -> None:
    both = AcceptanceRule(frozenset({ObserverGrade.CUSTOMER, ObserverGrade.INDEPENDENT}), True)
    with pytest.raises(ObserverInsufficient):
        both.confirmed_by(grade)


@pytest.mark.parametrize(
    "grades", [[], [ObserverGrade.PLATFORM], [ObserverGrade.CUSTOMER, ObserverGrade.AGENT]]
)
def test_a_rule_that_lets_the_seller_confirm_is_refused(grades: list[ObserverGrade]) -> None:
    with pytest.raises(AcceptanceRuleInvalid):
        rule_of(grades, deemed_after_stability=True)


def test_the_customers_yes_is_a_confirmation() -> None:
    assert AcceptanceRule().confirmed_by(ObserverGrade.CUSTOMER) is AcceptedAs.CONFIRMED


def look(status: S, after: timedelta, *, deemed: bool = False) -> Due:
    return due(
        status,
        reported_at=T0,
        verified_at=T0 if status is S.VERIFIED else None,
        windows=WINDOWS,
        rule=AcceptanceRule(deemed_after_stability=deemed),
        now=T0 + after,
    )


@pytest.mark.parametrize("status", [S.REPORTED, S.VERIFYING])
def test_a_verdict_that_does_not_come_in_time_is_the_sellers_loss(status: S) -> None:
    instant = timedelta(microseconds=1)
    assert look(status, WINDOWS.verification - instant, deemed=True) is Due.NOTHING
    assert look(status, WINDOWS.verification, deemed=True) is Due.EXPIRY


def test_silence_accepts_only_where_the_contract_says_so() -> None:
    assert look(S.VERIFIED, WINDOWS.stability - timedelta(microseconds=1), deemed=True) is Due.NOTHING
    assert look(S.VERIFIED, WINDOWS.stability, deemed=True) is Due.DEEMED_ACCEPTANCE
    assert look(S.VERIFIED, WINDOWS.stability) is Due.NOTHING
    assert look(S.VERIFIED, WINDOWS.confirmation) is Due.EXPIRY


@pytest.mark.parametrize("status", sorted(BILLABLE | EXITS))
def test_what_is_decided_is_left_alone_by_the_clock(status: S) -> None:
    assert look(status, timedelta(days=3650), deemed=True) is Due.NOTHING
