"""Which ports are taken, kept and exchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_platform.local.layout import BILLING_PORT, GATEWAY_PORT, LISTENERS, Wishes, decide
from headrace_platform.local.problems import OtherwiseRunning, PortTaken
from headrace_platform.local.state import Layout, Upstream

ELSEWHERE = Upstream(url="http://127.0.0.1:9000", model="glm-4.6")


def first(wishes: Wishes | None = None, *, taken: frozenset[int] = frozenset()) -> Layout:
    return decide(None, wishes or Wishes(), alive=set(), is_free=lambda port: port not in taken)


def again(
    before: Layout,
    wishes: Wishes | None = None,
    *,
    alive: set[str] | None = None,
    taken: frozenset[int] = frozenset(),
) -> Layout:
    return decide(before, wishes or Wishes(), alive=alive or set(), is_free=lambda port: port not in taken)


def test_people_find_the_gateway_and_billing_where_they_look_first() -> None:
    ports = first().ports
    assert (ports["gateway"], ports["billing-api"]) == (GATEWAY_PORT, BILLING_PORT)


def test_a_usual_port_that_is_taken_is_exchanged_for_another() -> None:
    assert first(taken=frozenset({GATEWAY_PORT})).ports["gateway"] != GATEWAY_PORT


def test_a_port_that_was_asked_for_is_that_or_an_error() -> None:
    assert first(Wishes(gateway_port=9001)).ports["gateway"] == 9001
    with pytest.raises(PortTaken, match="9001"):
        first(Wishes(gateway_port=9001), taken=frozenset({9001}))


def test_a_port_asked_for_once_is_not_exchanged_later_either() -> None:
    before = first(Wishes(gateway_port=9001))
    with pytest.raises(PortTaken, match="9001"):
        again(before, taken=frozenset({9001}))
    assert again(before, Wishes(gateway_port=9002), taken=frozenset({9001})).ports["gateway"] == 9002


@given(st.sets(st.sampled_from(LISTENERS)))
def test_ports_stay_the_same_from_start_to_start(alive: set[str]) -> None:
    before = first()
    # What runs holds its own port.
    taken = frozenset(before.ports[program] for program in alive)
    assert again(before, alive=alive, taken=taken).ports == before.ports


def test_while_others_know_a_program_by_its_port_it_is_not_exchanged() -> None:
    before = first()
    with pytest.raises(PortTaken):
        again(before, alive={"gateway"}, taken=frozenset({before.ports["postgres"]}))
    fresh = again(before, taken=frozenset({before.ports["postgres"]}))
    assert fresh.ports["postgres"] != before.ports["postgres"]
    assert fresh.ports["gateway"] == before.ports["gateway"]


def test_no_two_programs_share_a_port() -> None:
    ports = first(Wishes(billing_port=GATEWAY_PORT)).ports
    assert len(set(ports.values())) == len(LISTENERS)


def test_an_upstream_is_kept_until_the_engine_is_asked_for() -> None:
    before = first(Wishes(upstream=ELSEWHERE))
    assert again(before).upstream == ELSEWHERE
    assert again(before, Wishes(engine_here=True)).upstream is None


def test_the_gateways_workers_stay_as_many_until_asked_otherwise() -> None:
    before = first(Wishes(gateway_workers=2))
    assert again(before).gateway_workers == 2
    assert again(before, Wishes(gateway_workers=1)).gateway_workers == 1
    assert first().gateway_workers == 1


@pytest.mark.parametrize(
    "wishes", [Wishes(upstream=ELSEWHERE), Wishes(gateway_port=9001), Wishes(gateway_workers=3)]
)
def test_a_running_stack_is_not_changed_under_its_users(wishes: Wishes) -> None:
    with pytest.raises(OtherwiseRunning):
        again(first(), wishes, alive={"gateway"})
