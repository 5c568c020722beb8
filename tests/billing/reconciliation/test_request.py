"""One request: every difference has a name, is pending for a reason, or is red."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.reconciliation.request import (
    Billed,
    Comparison,
    Difference,
    Graces,
    Reason,
    Status,
    Tokens,
    Yielded,
    compare,
    total,
)
from headrace_contracts.engine import EngineEnding
from headrace_contracts.usage import Ending, Grade

FINISHED_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
GRACES = Graces()
LATER = timedelta(days=1)


def billed(
    tokens: tuple[int, int] = (10, 5),
    *,
    ending: Ending = Ending.COMPLETED,
    grade: Grade = Grade.FINAL,
    attempts: int = 1,
    witnessed: bool = True,
) -> Billed:
    return Billed("req", grade, ending, attempts, Tokens(*tokens), FINISHED_AT, witnessed)


def attempt(
    tokens: tuple[int, int] = (10, 5),
    *,
    number: int = 1,
    ending: EngineEnding = EngineEnding.FINISHED,
    replica: str = "a",
) -> Yielded:
    return Yielded(replica, number, ending, Tokens(*tokens))


def look(event: Billed, *records: Yielded, after: timedelta = LATER) -> Comparison:
    return compare(event, records, now=FINISHED_AT + after, graces=GRACES)


def test_a_request_billed_as_yielded_is_green_without_a_name() -> None:
    seen = look(billed(), attempt())
    assert (seen.status, seen.differences, seen.yielded) == (Status.GREEN, {}, Tokens(10, 5))


@pytest.mark.parametrize(
    ("ending", "name"),
    [
        (Ending.CLIENT_GONE, Difference.AFTER_HANGUP),
        (Ending.UPSTREAM_FAILED, Difference.AFTER_HANGUP),
        (Ending.TIMED_OUT, Difference.AFTER_HANGUP),
        (Ending.BUDGET_STOPPED, Difference.AFTER_BUDGET),
        (Ending.GATEWAY_LOST, Difference.ESTIMATE_GAP),
    ],
)
def test_what_was_generated_beyond_the_bill_is_named_by_how_the_request_ended(
    ending: Ending, name: Difference
) -> None:
    seen = look(billed((10, 5), ending=ending), attempt((12, 9), ending=EngineEnding.ABORTED))
    assert (seen.status, seen.differences) == (Status.GREEN, {name: Tokens(2, 4)})


def test_an_estimate_leaves_its_gap_whatever_its_ending() -> None:
    seen = look(billed(grade=Grade.ESTIMATED, ending=Ending.CLIENT_GONE), attempt((10, 8)))
    assert seen.differences == {Difference.ESTIMATE_GAP: Tokens(0, 3)}


def test_an_estimate_waits_for_its_final_event_and_then_stands() -> None:
    event = billed(grade=Grade.ESTIMATED, ending=Ending.GATEWAY_LOST)
    waiting = look(event, attempt(), after=GRACES.final_event - timedelta(microseconds=1))
    assert (waiting.status, waiting.reason) == (Status.PENDING, Reason.AWAITING_FINAL_EVENT)
    assert look(event, attempt(), after=GRACES.final_event).status is Status.GREEN


def test_a_completed_request_has_no_excuse_for_a_difference() -> None:
    seen = look(billed(), attempt((10, 6)))
    assert (seen.status, seen.reason) == (Status.RED, Reason.UNEXPLAINED)
    assert seen.unexplained == Tokens(0, 1)


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize("tokens", [(11, 5), (10, 6), (11, 0)])
def test_more_billed_than_yielded_is_red_however_it_ended(ending: Ending, tokens: tuple[int, int]) -> None:
    seen = look(billed(tokens, ending=ending), attempt((10, 5)))
    assert (seen.status, seen.reason) == (Status.RED, Reason.OVERBILLED)


def test_attempts_before_the_last_are_abandoned_ones() -> None:
    seen = look(
        billed(attempts=3),
        attempt((10, 2), number=1, ending=EngineEnding.FAILED),
        attempt((10, 5), number=3),
    )
    assert (seen.status, seen.differences) == (Status.GREEN, {Difference.ABANDONED_ATTEMPT: Tokens(10, 2)})


def test_an_attempt_that_the_engine_took_twice_was_answered_by_the_one_that_got_further() -> None:
    seen = look(billed(), attempt((10, 0), ending=EngineEnding.ABORTED, replica="b"), attempt(replica="a"))
    assert seen.differences == {Difference.ABANDONED_ATTEMPT: Tokens(10, 0)}
    assert seen.status is Status.GREEN


def test_a_missing_engine_record_is_waited_for_and_then_red() -> None:
    waiting = look(billed(), after=GRACES.engine_record - timedelta(microseconds=1))
    assert (waiting.status, waiting.reason) == (Status.PENDING, Reason.AWAITING_ENGINE_RECORD)
    missing = look(billed(), after=GRACES.engine_record)
    assert (missing.status, missing.reason) == (Status.RED, Reason.ENGINE_RECORD_MISSING)


def test_a_request_that_never_reached_an_engine_and_billed_nothing_is_green() -> None:
    event = billed((0, 0), ending=Ending.UPSTREAM_FAILED, attempts=2)
    assert look(event, after=timedelta(0)).status is Status.GREEN
    first = attempt((10, 0), number=1, ending=EngineEnding.FAILED)
    assert look(event, first).differences == {Difference.ABANDONED_ATTEMPT: Tokens(10, 0)}


def test_a_replica_that_died_before_it_could_tell_is_named_after_its_grace() -> None:
    started = attempt((10, 0), ending=EngineEnding.STARTED)
    event = billed((10, 30), ending=Ending.UPSTREAM_FAILED)
    assert look(event, started, after=timedelta(0)).reason is Reason.AWAITING_ENGINE_RECORD
    seen = look(event, started)
    assert (seen.status, seen.differences) == (Status.GREEN, {Difference.ENGINE_LOST: Tokens(0, -30)})
    assert seen.unexplained == Tokens(0, 0)


def test_an_engine_that_tells_nothing_is_not_waited_for_and_what_it_is_billed_is_told_apart() -> None:
    event = billed(attempts=2, witnessed=False)
    ours = attempt((10, 1), number=1, ending=EngineEnding.ABORTED)
    for after in (timedelta(0), LATER):
        seen = look(event, ours, after=after)
        assert (seen.status, seen.reason) == (Status.UNWITNESSED, None)
        assert (seen.unwitnessed, seen.differences) == (
            Tokens(10, 5),
            {Difference.ABANDONED_ATTEMPT: Tokens(10, 1)},
        )
        assert not seen.unexplained


def test_an_engine_that_tells_something_after_all_is_held_to_it() -> None:
    event = billed(witnessed=False)
    assert look(event, attempt()).status is Status.GREEN
    assert look(event, attempt((10, 4))).reason is Reason.OVERBILLED


counts = st.tuples(st.integers(0, 1000), st.integers(0, 1000))


@given(
    event=st.builds(
        billed,
        counts,
        ending=st.sampled_from(Ending),
        grade=st.sampled_from(Grade),
        attempts=st.integers(0, 3),
        witnessed=st.booleans(),
    ),
    records=st.lists(
        st.builds(
            attempt,
            counts,
            number=st.integers(1, 3),
            ending=st.sampled_from(EngineEnding),
            replica=st.sampled_from("ab"),
        ),
        max_size=4,
    ),
    after=st.sampled_from([timedelta(0), LATER]),
)
def test_green_always_adds_up_and_never_bills_more_than_an_engine_told(
    event: Billed, records: list[Yielded], after: timedelta
) -> None:
    seen = look(event, *records, after=after)
    if seen.status is Status.GREEN:
        assert seen.yielded == event.tokens + total(seen.differences)
        if Difference.ENGINE_LOST not in seen.differences:
            assert all(t.input >= 0 and t.output >= 0 for t in seen.differences.values())
            assert event.tokens.input <= seen.yielded.input
            assert event.tokens.output <= seen.yielded.output
    elif seen.status is Status.UNWITNESSED:
        assert not event.witnessed
        assert not seen.unexplained
    else:
        assert seen.reason is not None
