"""Which deployments an organisation's requests may go to."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.deployments import Deployment
from headrace_gateway.routing.deployments import Deployments
from tests.gateway.account import DEPLOYMENT

ORG = "org_1"


def deployment(name: str, model: str, *aliases: str, tenant: str | None = None) -> Deployment:
    return msgspec.structs.replace(DEPLOYMENT, id=name, model=model, aliases=list(aliases), tenant=tenant)


def test_a_model_is_found_by_name_and_alias_in_the_table_s_order() -> None:
    first, second, other = deployment("1", "a", "b"), deployment("2", "a"), deployment("3", "c", "c")
    deployments = Deployments([first, second, other])

    assert deployments.for_model("a", ORG) == [first, second]
    assert deployments.for_model("b", ORG) == [first]
    assert deployments.for_model("c", ORG) == [other]
    assert deployments.for_model("d", ORG) == []
    assert deployments.models(ORG) == [first, other]


def test_a_name_that_deployments_of_two_models_have_leads_to_both() -> None:
    old, new = deployment("1", "a", "best"), deployment("2", "b", "best")
    assert Deployments([old, new]).for_model("best", ORG) == [old, new]


def test_an_organisation_s_own_deployment_comes_before_those_of_all_and_is_not_there_for_others() -> None:
    shared = deployment("1", "a", "everyone")
    own = deployment("2", "a", "ours", tenant=ORG)
    private = deployment("3", "b", tenant=ORG)
    deployments = Deployments([shared, own, private])

    assert deployments.for_model("a", ORG) == [own]
    assert deployments.for_model("ours", ORG) == [own]
    assert deployments.models(ORG) == [own, private]
    assert deployments.for_model("a", "org_2") == [shared]
    assert deployments.for_model("ours", "org_2") == deployments.for_model("b", "org_2") == []
    assert deployments.models("org_2") == [shared]


def test_those_of_all_stand_behind_an_organisation_s_own_only_where_one_of_these_says_so() -> None:
    shared, other = deployment("1", "a", "everyone"), deployment("2", "b")
    own = msgspec.structs.replace(deployment("3", "a", tenant=ORG), overflow=True)
    deployments = Deployments([shared, other, own])

    assert deployments.for_model("a", ORG) == [own, shared]
    assert deployments.for_model("everyone", ORG) == [shared]
    assert deployments.for_model("b", ORG) == [other]
    assert deployments.models(ORG) == [own, other]


NAMES = st.sampled_from("abc")
TENANTS = st.sampled_from([None, "org_1", "org_2"])


@given(st.lists(st.tuples(NAMES, NAMES, TENANTS), max_size=8))
def test_no_name_leads_to_another_organisation_s_deployment(
    tables: list[tuple[str, str, str | None]],
) -> None:
    deployments = Deployments(
        deployment(str(number), model, alias, tenant=tenant)
        for number, (model, alias, tenant) in enumerate(tables)
    )
    for org in ("org_1", "org_2", "org_3"):
        for name in "abc":
            tenants = [each.tenant for each in deployments.for_model(name, org)]
            assert set(tenants) <= {None, org}
            assert tenants == sorted(tenants, key=lambda tenant: tenant is None)
        assert {each.tenant for each in deployments.models(org)} <= {None, org}
