"""Accelerator time from what was seen: each millisecond of a pod in one hour, none twice, none that nobody saw."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.gpu_time import HOUR_US, GpuTimeEvent
from headrace_contracts.usage import Grade
from headrace_platform.control.conditions import timestamp
from headrace_platform.control.gpu_time.held import Held, Holder, due, is_done, observed, seen_ending, sent
from tests.platform.control.gpu_time.pods import BEGINNING_US, moment, pod

HOLDER = Holder("acme", "acme/chat", "acme/chat-c1", "glm-tiny", "h200", frozenset({"nvidia.com/gpu"}))
MINUTE_US = 60_000_000


def look(before: dict[str, Held], pods: Iterable[dict[str, Any]], minutes: float) -> dict[str, Held]:
    return observed(before, [(each, HOLDER) for each in pods], BEGINNING_US + int(minutes * MINUTE_US))


def events(held: dict[str, Held], minutes: float = 10_000) -> list[GpuTimeEvent]:
    """What is due at some time, much later unless said."""
    now_us = BEGINNING_US + int(minutes * MINUTE_US)
    return [event for each in held.values() for event in due(each, now_us)]


def told(held: dict[str, Held]) -> dict[str, Held]:
    """With everything sent that is due."""
    return {uid: sent(each, events({uid: each})) for uid, each in held.items()}


def minutes_by_hour(found: Iterable[GpuTimeEvent]) -> list[tuple[int, float, Grade]]:
    return [((e.hour_us - BEGINNING_US) // HOUR_US, e.gpu_ms / 60_000, e.grade) for e in found]


def test_nothing_is_due_before_the_hour_or_the_pod_has_ended() -> None:
    held = look({}, [pod(started_minutes=10)], 59)
    assert events(held) == []
    held = look(held, [pod(started_minutes=10)], 61)
    assert minutes_by_hour(events(held)) == [(0, 50 * 8, Grade.FINAL)]
    held = told(held)
    assert events(look(held, [pod(started_minutes=10)], 62)) == []


def test_a_pod_that_ends_is_counted_to_the_end_of_its_last_container_at_once() -> None:
    held = look({}, [pod(started_minutes=10)], 20)
    held = look(held, [pod(started_minutes=10, ended_minutes=(25, 30))], 40)
    assert minutes_by_hour(events(held)) == [(0, 20 * 8, Grade.FINAL)]
    (done,) = told(held).values()
    assert is_done(done)


def test_a_pod_whose_deletion_was_seen_ends_when_its_last_status_says() -> None:
    held = look({}, [pod(started_minutes=10)], 20)
    held = seen_ending(held, pod(started_minutes=10, ended_minutes=(30,)))
    held = look(held, [], 40)
    assert minutes_by_hour(events(held)) == [(0, 20 * 8, Grade.FINAL)]


def test_a_pod_that_is_gone_without_a_word_ends_where_it_was_last_seen_and_says_so() -> None:
    held = look({}, [pod(started_minutes=10)], 80)
    held = look(held, [], 200)
    assert minutes_by_hour(events(held)) == [(0, 50 * 8, Grade.FINAL), (1, 20 * 8, Grade.ESTIMATED)]


def test_an_estimate_waits_for_a_word_that_may_still_come() -> None:
    held = look(look({}, [pod(started_minutes=10)], 20), [], 21)
    assert events(held, 24) == []
    assert minutes_by_hour(events(held, 25)) == [(0, 10 * 8, Grade.ESTIMATED)]
    held = seen_ending(held, pod(started_minutes=10, ended_minutes=(20.5,)))
    assert minutes_by_hour(events(held, 24)) == [(0, 10.5 * 8, Grade.FINAL)]


def test_a_pod_that_is_seen_again_after_all_has_its_estimate_replaced() -> None:
    held = look(look({}, [pod(started_minutes=10)], 80), [], 81)
    held = told(held)
    held = look(held, [pod(started_minutes=10)], 121)
    assert minutes_by_hour(events(held)) == [(1, 60 * 8, Grade.FINAL)]


def test_a_pod_that_was_there_all_the_time_is_counted_for_the_time_in_which_nobody_looked() -> None:
    held = look({}, [pod(started_minutes=10)], 11)
    held = look(held, [pod(started_minutes=10)], 190)
    assert minutes_by_hour(events(held)) == [
        (hour, n * 8, Grade.FINAL) for hour, n in ((0, 50), (1, 60), (2, 60))
    ]


def test_a_pod_that_waits_for_a_node_or_asks_for_no_accelerators_holds_nothing() -> None:
    assert look({}, [pod(started_minutes=None)], 30) == {}
    assert look({}, [pod(accelerators=0)], 30) == {}
    evicted = pod()
    evicted["status"] = {"phase": "Failed", "startTime": evicted["status"]["startTime"]}
    assert look({}, [evicted], 30) == {}


def test_a_pod_of_another_kind_of_accelerator_keeps_what_it_was_made_with() -> None:
    held = look({}, [pod(accelerators=4)], 20)
    other = Holder(
        "acme",
        "acme/chat",
        "acme/chat-c1",
        "glm-tiny",
        "mi300x",
        frozenset({"nvidia.com/gpu", "amd.com/gpu"}),
    )
    held = observed(held, [(pod(accelerators=4), other)], BEGINNING_US + 61 * MINUTE_US)
    (event,) = events(held)
    assert (event.profile, event.accelerators) == ("h200", 4)


LOOKS = st.lists(st.integers(1, 300), max_size=8, unique=True).map(sorted)


@given(start=st.integers(0, 100), length=st.integers(1, 150), looks=LOOKS, seconds=st.integers(0, 59))
def test_whenever_somebody_looks_every_millisecond_that_was_seen_is_counted_once(
    start: int, length: int, looks: list[int], seconds: int
) -> None:
    end = start + length + seconds / 60
    held: dict[str, Held] = {}
    counted: dict[int, GpuTimeEvent] = {}
    for minutes in looks:
        pods = [pod(started_minutes=start)] if start <= minutes < end else []
        held = look(held, pods, minutes)
        for event in events(held):
            known = counted.get(event.hour_us)
            assert known is None, "each hour is sent once"
            counted[event.hour_us] = event
        held = told(held)
        held = {uid: each for uid, each in held.items() if not is_done(each)}
    seen = [minutes for minutes in looks if start <= minutes < end]
    was_missed = any(minutes >= end for minutes in looks)
    whole_until = max(seen, default=start) if was_missed else max(seen, default=start) // 60 * 60
    assert sum(event.gpu_ms for event in counted.values()) == max(0, whole_until - start) * 60_000 * 8
    guesses = [event for event in counted.values() if event.grade is Grade.ESTIMATED]
    assert all(event.ended_at_us < event.hour_us + HOUR_US for event in guesses)


@given(st.integers(0, 10**6))
def test_a_moment_and_its_text_are_the_same_microseconds(seconds: int) -> None:
    text = timestamp(moment(seconds / 60))
    status = pod(started_minutes=seconds / 60)["status"]
    assert status["startTime"] == text
