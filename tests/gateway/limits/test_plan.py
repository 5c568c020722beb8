"""Which limits a request must pass, read from its records."""

from collections.abc import Sequence

import pytest

from headrace_contracts.access import (
    KeyRecord,
    KeyStatus,
    Limit,
    LimitKind,
    ProjectRecord,
    Window,
    WindowShape,
    WindowUnit,
)
from headrace_contracts.usage import Disposition
from headrace_gateway.limits import plan
from headrace_gateway.limits.state import CheckedLimit


def checked(
    *,
    key: Sequence[Limit] = (),
    project: Sequence[Limit] = (),
    org: Sequence[Limit] = (),
    prompt_tokens_max: int = 10,
    model: str = "glm",
    disposition: Disposition = Disposition.PAYG,
) -> list[CheckedLimit]:
    return plan.planned(
        KeyRecord(id="key_1", project="project_1", status=KeyStatus.ACTIVE, limits=list(key)),
        ProjectRecord(
            id="project_1",
            org="org_1",
            wallet="wallet_1",
            currency="USD",
            disposition=Disposition.PAYG,
            limits=list(project),
            org_limits=list(org),
        ),
        None,
        disposition=disposition,
        model=model,
    ).limits(prompt_tokens_max=prompt_tokens_max, at_us=0)


REQUESTS = Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=60)


def test_a_changed_record_s_limits_hold_for_the_next_request() -> None:
    assert [limit[2] for limit in checked(key=[REQUESTS])] == [60]
    assert [limit[2] for limit in checked(key=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=6)])] == [6]
    assert checked() == []


def test_equal_limits_of_several_scopes_have_counters_of_their_own() -> None:
    counters = [limit[1] for limit in checked(key=[REQUESTS], project=[REQUESTS], org=[REQUESTS])]
    assert counters == [
        "hr:limit:requests_per_minute:org:org_1",
        "hr:limit:requests_per_minute:project:project_1",
        "hr:limit:requests_per_minute:key:key_1",
    ]


@pytest.mark.parametrize("kind", [LimitKind.TOKENS_PER_MINUTE, LimitKind.INPUT_TOKENS_PER_MINUTE])
def test_each_request_weighs_what_its_own_prompt_may_have(kind: LimitKind) -> None:
    limit = Limit(kind=kind, ceiling=1000)
    weights = [checked(key=[limit], prompt_tokens_max=tokens)[0][3] for tokens in (7, 300, 7)]
    assert weights == [7, 300, 7]


def test_a_limit_of_one_model_is_passed_by_requests_for_others() -> None:
    limit = Limit(kind=LimitKind.CONCURRENCY, ceiling=2, model="glm-air")
    assert checked(key=[limit], model="glm") == []
    assert len(checked(key=[limit], model="glm-air")) == 1


def test_a_plan_s_window_counts_what_it_pays_for_alone() -> None:
    week = Window(seconds=604_800, shape=WindowShape.FIXED, unit=WindowUnit.REQUESTS)
    limits = [
        Limit(kind=LimitKind.WINDOW, ceiling=5, window=week, pays=True),
        Limit(kind=LimitKind.WINDOW, ceiling=9, window=week),
        Limit(kind=LimitKind.SPEND_DAY, ceiling=7),
    ]

    def ceilings(disposition: Disposition) -> list[int]:
        return [limit[2] for limit in checked(project=limits, disposition=disposition)]

    assert ceilings(Disposition.PLAN_WINDOW) == [5, 9]
    assert ceilings(Disposition.PAYG) == [9, 7]
