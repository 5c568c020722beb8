"""The fair order of those who wait."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.limits.turns import Standing, Waiting, fair_order, seconds_to_turn, turns_of

ORGS = ("org_1", "org_2", "org_3")


def waiting(org: str, **changes: int | str) -> Waiting:
    fields = {"gateway": "g1", "rank": 0, "org": org, "weight": 1, "count": 100, "since_ms": 0}
    return Waiting(**{**fields, **changes})  # type: ignore[arg-type]


def standing(*waiting: Waiting, running: int = 0, clock_us: int = 0, **tags_us: int) -> Standing:
    return Standing(running, 1_000_000, clock_us, waiting, tags_us)


standings = st.builds(
    standing,
    st.builds(
        Waiting,
        gateway=st.sampled_from(["g1", "g2", "g3"]),
        rank=st.integers(0, 1),
        org=st.sampled_from(ORGS),
        weight=st.integers(1, 5),
        count=st.integers(1, 4),
        since_ms=st.integers(0, 1000),
    ),
    running=st.integers(0, 6),
    clock_us=st.integers(0, 10**7),
    **dict.fromkeys(ORGS, st.integers(0, 10**7)),
)


@given(standings, st.integers(0, 12))
def test_gateways_that_see_the_same_give_every_free_slot_to_one_of_them(seen: Standing, slots: int) -> None:
    turns = [turn for gateway in ("g1", "g2", "g3") for turn in turns_of(seen, gateway=gateway, slots=slots)]
    assert len(turns) == min(max(0, slots - seen.running), seen.count)


@given(standings)
def test_everybody_who_waits_has_a_turn_and_batch_comes_last(seen: Standing) -> None:
    order = list(fair_order(seen))
    assert Counter(order) == Counter({each: each.count for each in seen.waiting})
    assert [each.rank for each in order] == sorted(each.rank for each in order)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=3), st.integers(1, 60))
def test_turns_are_shared_by_weight_to_within_the_bound_of_fair_queueing(
    weights: list[int], turns: int
) -> None:
    """Two are never further apart than a request of each (Goyal, Vin, Cheng 1996, theorem 1), summed over the others."""
    lines = [waiting(ORGS[number], weight=weight) for number, weight in enumerate(weights)]
    served = Counter(each.org for each in islice(fair_order(standing(*lines)), turns))
    for number, weight in enumerate(weights):
        apart_max = 1 + (len(weights) - 2) * weight / sum(weights)
        assert abs(served[ORGS[number]] - turns * weight / sum(weights)) <= apart_max + 1e-9


def test_who_held_slots_for_longer_waits_until_the_others_have_held_them_as_long() -> None:
    seen = standing(waiting("org_1"), waiting("org_2"), clock_us=0, org_1=3_000_000)
    assert [each.org for each in islice(fair_order(seen), 4)] == ["org_2", "org_2", "org_2", "org_1"]


def test_who_did_not_wait_for_long_has_saved_nothing_up() -> None:
    seen = standing(waiting("org_1"), waiting("org_2"), clock_us=9_000_000, org_1=9_000_000, org_2=1)
    served = Counter(each.org for each in islice(fair_order(seen), 10))
    assert served == {"org_1": 5, "org_2": 5}


def test_of_one_organisation_the_longest_waiting_is_next_at_whichever_gateway() -> None:
    seen = standing(
        waiting("org_1", gateway="g1", since_ms=20, count=1),
        waiting("org_1", gateway="g2", since_ms=10, count=1),
    )
    assert [each.gateway for each in fair_order(seen)] == ["g2", "g1"]


def test_the_wait_is_that_for_the_slots_of_all_who_come_before() -> None:
    newcomer = waiting("org_2", count=1, since_ms=2**53)
    alone = standing(waiting("org_1"), running=4)
    # A second a request, four at a time: org_1's hundred do not all come before.
    assert seconds_to_turn(alone, slots=4, newcomer=newcomer) == 0.5
    behind = waiting("org_1", count=1, since_ms=2**53)
    assert seconds_to_turn(alone, slots=4, newcomer=behind) == 101 / 4
    # A slot stands empty for half a round where its next user waits at another gateway, half of the time here.
    both = standing(waiting("org_1"), waiting("org_1", gateway="g2", count=1), running=4)
    assert seconds_to_turn(both, slots=4, newcomer=newcomer, round_seconds=0.4) == 0.5 * 1.1
    assert seconds_to_turn(standing(), slots=4, newcomer=newcomer) == 0
    assert seconds_to_turn(Standing(4, 0, 0), slots=4, newcomer=newcomer) is None
