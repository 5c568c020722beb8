"""The order of deployments that would do."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.deployments import Deployment
from headrace_gateway.routing.choice import in_order, named_by
from tests.gateway.account import DEPLOYMENT

NOW = 1_800_000_000


def deployment(name: str, **changes: Any) -> Deployment:
    return msgspec.structs.replace(DEPLOYMENT, id=name, **changes)


def first(deployments: list[Deployment], session: bytes, *, org: str = "org_1", project: str = "p") -> str:
    return in_order(deployments, org=org, project=project, affinity=lambda: session, now=NOW)[0].id


def sessions(count: int) -> list[bytes]:
    return [b"session %d" % number for number in range(count)]


def test_a_canary_gets_its_weight_s_share_of_the_sessions() -> None:
    table = [deployment("stable", weight=95), deployment("canary", weight=5)]
    served = Counter(first(table, session) for session in sessions(4000))
    assert 120 <= served["canary"] <= 280


def test_without_weight_it_serves_only_when_the_others_can_not() -> None:
    table = [deployment("new", weight=0), deployment("old")]
    for session in sessions(50):
        order = in_order(table, org="o", project="p", affinity=lambda: session, now=NOW)  # noqa: B023 - called at once
        assert [each.id for each in order] == ["old", "new"]


@given(st.integers(2, 6), st.data())
def test_a_session_moves_only_when_its_deployment_goes_or_to_one_that_comes(count: int, data: Any) -> None:
    table = [deployment(str(number), weight=number + 1) for number in range(count)]
    gone = data.draw(st.sampled_from(table))
    rest = [each for each in table if each is not gone]
    for session in sessions(20):
        before = first(table, session)
        assert first(rest, session) == before or before == gone.id
        assert first(table[::-1], session) == before


def test_two_organisations_sessions_of_one_name_are_two() -> None:
    table = [deployment(str(number)) for number in range(2)]
    differ = [
        first(table, session, org="org_1") != first(table, session, org="org_2") for session in sessions(64)
    ]
    assert any(differ)


def test_who_names_no_session_is_spread() -> None:
    table = [deployment("1"), deployment("2")]
    found = {in_order(table, org="o", project="p", affinity=lambda: None, now=NOW)[0].id for _ in range(64)}
    assert found == {"1", "2"}


def test_a_pinned_deployment_is_open_to_its_projects_alone_and_comes_first_for_them() -> None:
    table = [deployment("all", weight=1000), deployment("pinned", projects=["p"])]
    for session in sessions(20):
        assert first(table, session, project="p") == "pinned"
        order = in_order(table, org="o", project="q", affinity=lambda: None, now=NOW)
        assert [each.id for each in order] == ["all"]


def test_an_organisation_s_own_come_before_those_of_all_whatever_they_weigh() -> None:
    table = [deployment("shared", weight=1000), deployment("own", tenant="org_1")]
    assert {first(table, session) for session in sessions(20)} == {"own"}


def test_a_deprecated_revision_is_led_to_by_its_own_name_and_where_no_other_is_left() -> None:
    table = [deployment("old", deprecated_at=NOW, weight=1000), deployment("new", revision="r2")]
    for session in sessions(20):
        assert first(table, session) == "new"
    found = in_order(table, org="o", project="p", affinity=lambda: None, now=NOW)
    assert [each.id for each in named_by(found, lambda _: True, now=NOW)] == ["new", "old"]
    assert named_by(found, lambda each: each.id == "old", now=NOW) == found, "left for admission to refuse"
    assert [each.id for each in named_by(table, lambda each: each.id == "new", now=NOW)] == ["new"]


def test_one_that_will_be_deprecated_serves_as_before_until_then() -> None:
    table = [deployment("old", deprecated_at=NOW + 1, weight=95), deployment("new", revision="r2", weight=5)]
    served = Counter(first(table, session) for session in sessions(2000))
    assert 1800 <= served["old"] < 2000
    assert named_by(table, lambda each: each.id == "old", now=NOW) == [table[0]]
