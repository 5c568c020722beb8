"""Server-side apply: fields have owners, what an owner leaves out goes, and who takes another's must say so."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.kubernetes.test_api_server import CONFIG_MAPS, WIDGET, widget
from tests.support.kubernetes import ownership
from tests.support.kubernetes.api_server import ApiServer
from tests.support.kubernetes.client import APPLY, Kubectl
from tests.support.kubernetes.ownership import Manager

ROUTES = f"{CONFIG_MAPS}/routes"


def routes(**entries: str) -> dict[str, Any]:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "routes"}}
    return {**document, "data": entries} if entries else document


async def test_an_apply_creates_what_is_not_there_and_changes_nothing_the_second_time(
    server: ApiServer, kube: Kubectl
) -> None:
    created = await kube.apply(WIDGET, widget())
    again = await kube.apply(WIDGET, widget())
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    assert [(call.status, call.changed) for call in server.writes[-2:]] == [(201, True), (200, False)]


async def test_what_an_owner_leaves_out_goes_and_what_others_own_stays(kube: Kubectl) -> None:
    await kube.apply(ROUTES, routes(a="1", b="1"))
    await kube.as_manager("other").apply(ROUTES, routes(c="1", b="1"))
    left = await kube.apply(ROUTES, routes(a="2"))
    assert left["data"] == {"a": "2", "b": "1", "c": "1"}
    left = await kube.as_manager("other").apply(ROUTES, routes())
    assert left["data"] == {"a": "2"}
    assert [entry["manager"] for entry in left["metadata"]["managedFields"]] == ["kubectl"]


async def test_another_value_for_another_s_field_is_a_conflict_unless_forced(kube: Kubectl) -> None:
    await kube.apply(ROUTES, routes(a="1"))
    other = kube.as_manager("other")
    refused = await other.ask("PATCH", ROUTES, routes(a="2", b="2"), content_type=APPLY)
    assert refused.status == 409
    (cause,) = refused.document["details"]["causes"]
    assert (cause["field"], cause["message"]) == (".data.a", 'conflict with "kubectl"')
    assert (await kube.get(ROUTES))["data"] == {"a": "1"}
    taken = await other.apply(ROUTES, routes(a="2"), force=True)
    assert taken["data"] == {"a": "2"}
    left = await kube.apply(ROUTES, routes())
    assert left["data"] == {"a": "2"}, "it is no longer the first one's to remove"


async def test_an_edit_takes_a_field_and_a_forced_apply_takes_it_back(kube: Kubectl) -> None:
    owner = kube.as_manager("owner")
    await owner.apply(WIDGET, widget(size=1))
    await kube.merge(WIDGET, {"spec": {"size": 9}})
    refused = await owner.ask("PATCH", WIDGET, widget(size=1), content_type=APPLY)
    assert refused.status == 409
    assert (await owner.apply(WIDGET, widget(size=1), force=True))["spec"]["size"] == 1


async def test_items_of_a_list_that_is_a_map_have_their_own_owners_and_a_plain_list_has_one(
    kube: Kubectl,
) -> None:
    http, metrics = ({"name": name, "protocol": "TCP", "number": 80} for name in ("http", "metrics"))
    await kube.apply(WIDGET, widget(ports=[http], plain=["x"]))
    # An unsaid key has its default, so this is the same item.
    both = await kube.as_manager("other").apply(WIDGET, widget(ports=[{"name": "metrics", "number": 80}]))
    assert both["spec"]["ports"] == [http, metrics]
    again = await kube.as_manager("other").apply(WIDGET, widget(ports=[{"name": "metrics", "number": 80}]))
    assert again["metadata"]["resourceVersion"] == both["metadata"]["resourceVersion"]
    left = await kube.apply(WIDGET, widget(plain=["y"]))
    assert left["spec"]["ports"] == [metrics]
    assert left["spec"]["plain"] == ["y"]


async def test_an_apply_to_the_status_owns_nothing_of_the_spec(kube: Kubectl) -> None:
    await kube.apply(WIDGET, widget())
    told = await kube.apply(
        f"{WIDGET}/status", {**widget(), "spec": {"size": 5}, "status": {"phase": "fine"}}
    )
    assert (told["spec"]["size"], told["status"]) == (1, {"phase": "fine"})
    assert "status" in (await kube.apply(WIDGET, widget()))


MAPS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), MAPS), max_size=8))
def test_after_any_forced_applies_the_object_is_the_union_of_what_its_owners_last_said(
    applies: list[tuple[str, dict[str, str]]],
) -> None:
    live: dict[str, Any] = {}
    owners: ownership.Owners = {}
    said: dict[str, dict[str, str]] = {}
    for name, entries in applies:
        wanted = {"data": entries} if entries else {}
        result = ownership.apply(live, owners, wanted, Manager(name, "Apply"), {}, force=True)
        live, owners = result.content, result.owners
        for other, before in said.items():
            if other != name:
                said[other] = {key: v for key, v in before.items() if entries.get(key, v) == v}
        said[name] = entries
        assert live.get("data", {}) == {key: v for each in said.values() for key, v in each.items()}
