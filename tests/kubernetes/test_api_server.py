"""The tests' API server does what a controller may rely on, and refuses what a real one refuses."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.kubernetes.api_server import ApiServer
from tests.support.kubernetes.calls import Fault
from tests.support.kubernetes.client import JSON, MERGE, Kubectl
from tests.support.kubernetes.kinds import Document

WIDGETS = "/apis/example.test/v1/namespaces/shop/widgets"
WIDGET = f"{WIDGETS}/a"
CONFIG_MAPS = "/api/v1/namespaces/shop/configmaps"


def widget(name: str = "a", **spec: Any) -> Document:
    return {
        "apiVersion": "example.test/v1",
        "kind": "Widget",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"size": 1, **spec},
    }


@asynccontextmanager
async def watching(kube: Kubectl, version: str, **query: str) -> AsyncIterator[aiohttp.StreamReader]:
    params = {"watch": "true", "resourceVersion": version, **query}
    async with kube.session.get(kube.url + WIDGETS, params=params) as response:
        yield response.content


async def next_of(stream: aiohttp.StreamReader) -> tuple[str, Document]:
    change = json.loads(await asyncio.wait_for(stream.readline(), 10))
    return change["type"], change["object"]


async def test_discovery_names_kinds_and_subresources(kube: Kubectl) -> None:
    groups = await kube.get("/apis")
    assert "example.test" in [group["name"] for group in groups["groups"]]
    resources = (await kube.get("/apis/example.test/v1"))["resources"]
    assert [resource["name"] for resource in resources] == ["widgets", "widgets/status", "widgets/scale"]


async def test_a_created_object_has_identity_version_generation_and_defaults(kube: Kubectl) -> None:
    created = await kube.create(WIDGETS, widget())
    assert created["metadata"]["uid"]
    assert created["metadata"]["generation"] == 1
    assert created["spec"] == {"size": 1, "colour": "red"}
    assert await kube.get(WIDGET) == created


async def test_generation_counts_changes_of_the_spec_alone(kube: Kubectl) -> None:
    await kube.create(WIDGETS, widget())
    labelled = await kube.merge(WIDGET, {"metadata": {"labels": {"app": "b"}}})
    told = await kube.merge(f"{WIDGET}/status", {"status": {"phase": "fine"}, "spec": {"size": 7}})
    assert (labelled["metadata"]["generation"], told["metadata"]["generation"]) == (1, 1)
    assert told["spec"]["size"] == 1, "the status subresource writes nothing else"
    grown = await kube.merge(WIDGET, {"spec": {"size": 2}, "status": {"phase": "bad"}})
    assert grown["metadata"]["generation"] == 2
    assert grown["status"]["phase"] == "fine", "and nothing else writes the status"


async def test_a_write_that_changes_nothing_makes_no_new_version(server: ApiServer, kube: Kubectl) -> None:
    created = await kube.create(WIDGETS, widget())
    again = await kube.merge(WIDGET, {"spec": {"size": 1}})
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    assert [call.changed for call in server.writes[-2:]] == [True, False]


async def test_a_stale_version_is_a_conflict_in_every_kind_of_write(kube: Kubectl) -> None:
    old = await kube.create(WIDGETS, widget())
    await kube.merge(WIDGET, {"spec": {"size": 2}})
    version = old["metadata"]["resourceVersion"]
    replaced = await kube.ask("PUT", WIDGET, old)
    merged = await kube.ask(
        "PATCH", WIDGET, {"metadata": {"resourceVersion": version}, "spec": {"size": 3}}, content_type=MERGE
    )
    tested = await kube.ask(
        "PATCH",
        WIDGET,
        [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/metadata/finalizers", "value": ["example.test/hold"]},
        ],
        content_type=JSON,
    )
    assert (replaced.status, merged.status, tested.status) == (409, 409, 422)
    assert (await kube.get(WIDGET))["spec"]["size"] == 2


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"size": 0}, "out of range"),
        ({"size": "1"}, "must be of type integer"),
        ({"size": None}, "must be of type integer"),
        ({"colour": "green"}, "unsupported value"),
        ({"sise": 1}, "unknown field"),
        ({"memory": True}, "integer or a string"),
        ({"ports": [{"name": "x"}, {"name": "x"}]}, "same"),
        ({"options": {"a": 1}}, "must be of type string"),
    ],
)
async def test_what_the_schema_forbids_is_refused_and_leaves_nothing(
    kube: Kubectl, spec: Document, why: str
) -> None:
    answer = await kube.ask("POST", WIDGETS, widget(**spec))
    assert answer.status == 422
    assert why in answer.document["message"]
    assert await kube.items(WIDGETS) == []


async def test_a_second_object_of_one_name_and_one_in_no_namespace_are_refused(kube: Kubectl) -> None:
    await kube.create(WIDGETS, widget())
    twice = await kube.ask("POST", WIDGETS, widget())
    nowhere = await kube.ask("POST", WIDGETS.replace("shop", "nowhere"), widget())
    assert (twice.status, twice.document["reason"], nowhere.status) == (409, "AlreadyExists", 404)


async def test_finalizers_hold_a_deleted_object_until_the_last_is_gone(kube: Kubectl) -> None:
    await kube.create(WIDGETS, {**widget(), "metadata": {"name": "a", "finalizers": ["example.test/hold"]}})
    dying = await kube.delete(WIDGET)
    assert dying["metadata"]["deletionTimestamp"]
    refused = await kube.ask("PATCH", WIDGET, {"metadata": {"finalizers": ["x/y"]}}, content_type=MERGE)
    assert refused.status == 422, "nothing may hold it that did not before"
    await kube.merge(WIDGET, {"metadata": {"finalizers": []}})
    assert (await kube.ask("GET", WIDGET)).status == 404


async def test_what_has_lost_its_last_owner_is_collected(kube: Kubectl) -> None:
    first, second = await kube.create(WIDGETS, widget("a")), await kube.create(WIDGETS, widget("b"))

    def owned_by(*owners: Document) -> list[Document]:
        return [
            {
                "apiVersion": "example.test/v1",
                "kind": "Widget",
                "name": o["metadata"]["name"],
                "uid": o["metadata"]["uid"],
            }
            for o in owners
        ]

    child = await kube.create(
        CONFIG_MAPS, {"metadata": {"name": "child", "ownerReferences": owned_by(first)}}
    )
    grandchild = {"name": "grandchild", "ownerReferences": owned_by(child)}
    await kube.create(CONFIG_MAPS, {"metadata": grandchild})
    await kube.create(CONFIG_MAPS, {"metadata": {"name": "both", "ownerReferences": owned_by(first, second)}})
    await kube.delete(WIDGET)
    assert [item["metadata"]["name"] for item in await kube.items(CONFIG_MAPS)] == ["both"]
    await kube.create(CONFIG_MAPS, {"metadata": {"name": "late", "ownerReferences": owned_by(first)}})
    assert len(await kube.items(CONFIG_MAPS)) == 1, "also what is made when its owner is gone already"


async def test_a_delete_may_ask_for_one_incarnation(kube: Kubectl) -> None:
    await kube.create(WIDGETS, widget())
    answer = await kube.ask("DELETE", WIDGET, {"preconditions": {"uid": "another"}})
    assert answer.status == 409
    assert await kube.get(WIDGET)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("app=a", ["a"]),
        ("app!=a", ["b", "c"]),
        ("app in (a, c)", ["a", "c"]),
        ("app notin (a),app", ["b", "c"]),
        ("!app", []),
    ],
)
async def test_a_selector_selects(kube: Kubectl, labels: str, names: list[str]) -> None:
    for name in "abc":
        await kube.create(WIDGETS, widget(name))
    assert [item["metadata"]["name"] for item in await kube.items(WIDGETS, labels)] == names


async def test_a_list_comes_in_pages(kube: Kubectl) -> None:
    for name in "abc":
        await kube.create(WIDGETS, widget(name))
    first = (await kube.ask("GET", WIDGETS, limit="2")).document
    rest = (await kube.ask("GET", WIDGETS, limit="2", **{"continue": first["metadata"]["continue"]})).document
    assert [item["metadata"]["name"] for item in [*first["items"], *rest["items"]]] == ["a", "b", "c"]
    assert "continue" not in rest["metadata"]


async def test_scale_reads_and_writes_the_path_that_the_kind_names(kube: Kubectl) -> None:
    await kube.create(WIDGETS, widget(replicas=2))
    await kube.merge(f"{WIDGET}/status", {"status": {"replicas": 1}})
    scale = await kube.get(f"{WIDGET}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 1)
    await kube.merge(f"{WIDGET}/scale", {"spec": {"replicas": 5}})
    scaled = await kube.get(WIDGET)
    assert (scaled["spec"]["replicas"], scaled["metadata"]["generation"]) == (5, 2)


async def test_a_watch_tells_what_happened_since_and_what_happens(kube: Kubectl) -> None:
    created = await kube.create(WIDGETS, widget())
    await kube.merge(WIDGET, {"spec": {"size": 2}})
    async with watching(kube, created["metadata"]["resourceVersion"]) as stream:
        assert (await next_of(stream))[1]["spec"]["size"] == 2
        await kube.delete(WIDGET)
        assert (await next_of(stream))[0] == "DELETED"


async def test_a_selecting_watch_sees_objects_enter_and_leave(kube: Kubectl) -> None:
    created = await kube.create(WIDGETS, widget())
    version = created["metadata"]["resourceVersion"]
    async with watching(kube, version, labelSelector="app=b") as stream:
        await kube.merge(WIDGET, {"spec": {"size": 2}})
        await kube.merge(WIDGET, {"metadata": {"labels": {"app": "b"}}})
        await kube.merge(WIDGET, {"metadata": {"labels": {"app": "c"}}})
        assert [(await next_of(stream))[0] for _ in range(2)] == ["ADDED", "DELETED"]


async def test_a_watch_from_a_forgotten_version_is_told_so(server: ApiServer, kube: Kubectl) -> None:
    created = await kube.create(WIDGETS, widget())
    await kube.create(WIDGETS, widget("b"))
    server.store.compact()
    async with watching(kube, created["metadata"]["resourceVersion"]) as stream:
        kind, status = await next_of(stream)
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


async def test_watches_can_be_dropped(server: ApiServer, kube: Kubectl) -> None:
    async with watching(kube, "0") as stream:
        server.drop_watches()
        # The definition and the namespace were before; no widget is.
        assert await asyncio.wait_for(stream.readline(), 10) == b""


async def test_faults_strike_the_calls_they_are_meant_for(server: ApiServer, kube: Kubectl) -> None:
    server.script.faults.append(Fault(lambda call: call.verb == "create", status=429, retry_after_seconds=3))
    assert await kube.items(WIDGETS) == []
    assert (await kube.ask("POST", WIDGETS, widget())).status == 429
    assert (await kube.ask("POST", WIDGETS, widget())).status == 201
    server.script.faults.append(Fault(lambda call: call.is_write, is_cut=True, is_done=True))
    with pytest.raises(aiohttp.ClientConnectionError):
        await kube.create(WIDGETS, widget("b"))
    assert await kube.get(f"{WIDGETS}/b"), "it was done, only nobody was told"


@pytest.mark.parametrize("done", [False, True])
async def test_a_server_that_dies_answers_nothing_from_that_call_on(
    server: ApiServer, kube: Kubectl, done: bool
) -> None:
    server.script.dies_at, server.script.dies_done = 1, done
    await kube.create(WIDGETS, widget("a"))
    for name in "bc":
        with pytest.raises(aiohttp.ClientConnectionError):
            await kube.create(WIDGETS, widget(name))
    server.script.dies_at = None
    assert len(await kube.items(WIDGETS)) == 1 + done


async def test_only_who_has_the_token_is_answered(server: ApiServer, kube: Kubectl) -> None:
    server.token = "secret"
    assert (await kube.ask("GET", WIDGETS)).status == 401
