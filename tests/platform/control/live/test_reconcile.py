"""A deployment comes up, stays as it is, and what somebody changes is mended."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from headrace_platform.control.deployment import decode
from headrace_platform.control.drift import DIGEST_ANNOTATION
from headrace_platform.control.observation import Key
from headrace_platform.control.render import render
from headrace_platform.control.resource import resource_of
from tests.platform.control.live.ground import (
    DRAIN,
    PROPAGATION,
    ROUTES,
    Ground,
    Operator,
    path_of,
    service_path,
)
from tests.support.kubernetes.kinds import Document
from tests.support.kubernetes.kuberay import Stage

ONE_GPU = {"accelerator": {"profile": "h200", "count": 1}}


async def ready(ground: Ground, changes: dict[str, Any] | None = None) -> tuple[Operator, Key]:
    operator, key = await ground.operator(), await ground.create("small", {**ONE_GPU, **(changes or {})})
    await ground.settle(operator, key)
    assert await ground.is_ready(key), await ground.conditions(key)
    return operator, key


async def test_a_deployment_becomes_ready_and_only_then_has_a_route(ground: Ground) -> None:
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    seen = []
    for _ in range(12):
        await operator.look(key)
        seen.append((await ground.is_ready(key), bool(await ground.routed(key))))
        await ground.ray.step()
    assert seen[0] == (False, False)
    assert seen[-1] == (True, True)
    assert all(ready == routed for ready, routed in seen)


async def test_the_second_pass_in_a_row_writes_nothing_at_whichever_stage(ground: Ground) -> None:
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    await operator.look(key)  # takes hold of it
    ground.ray.stages["tiny-c1"] = Stage.PENDING
    for stage in (Stage.PENDING, Stage.CLUSTER_READY, Stage.FAILED, Stage.SERVING):
        ground.ray.stages["tiny-c1"] = stage
        for _ in range(4):
            await operator.look(key)
            before = len(ground.server.writes)
            await operator.look(key)
            assert [str(call) for call in ground.server.writes[before:]] == []
            await ground.ray.step()
    assert await ground.is_ready(key)


async def test_an_operator_that_starts_anew_finds_all_as_it_should_be(ground: Ground) -> None:
    _, key = await ready(ground)
    before = len(ground.server.writes)
    await (await ground.operator()).look(key)
    assert [str(call) for call in ground.server.writes[before:]] == []


async def test_conditions_tell_each_stage_and_what_hinders_it(ground: Ground) -> None:
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    ground.ray.stages["tiny-c1"] = Stage.PENDING
    await ground.settle(operator, key)
    conditions = await ground.conditions(key)
    assert conditions["Accepted"] == ("True", "Accepted")
    assert conditions["CapacityAvailable"] == ("False", "Unschedulable")
    assert conditions["ClusterReady"] == ("False", "Provisioning")
    assert conditions["Ready"] == ("False", "Unschedulable")
    ground.ray.stages["tiny-c1"] = Stage.FAILED
    await ground.settle(operator, key)
    conditions = await ground.conditions(key)
    assert conditions["ClusterReady"] == ("True", "Provisioned")
    assert conditions["ServeReady"] == conditions["Ready"] == ("False", "DeployFailed")
    reasons = sorted(reason for reason, _ in await ground.events(key))
    assert reasons == ["DeployFailed", "Unschedulable"]
    status = (await ground.get(key))["status"]
    assert (status["replicas"], status["readyReplicas"], status["accelerators"]) == (1, 1, 1)


async def test_a_transition_time_changes_when_the_status_does_and_at_no_other_moment(ground: Ground) -> None:
    operator, key = await ready(ground)

    async def times() -> dict[str, str]:
        return {c["type"]: c["lastTransitionTime"] for c in (await ground.get(key))["status"]["conditions"]}

    before = await times()
    ground.clock.advance(timedelta(hours=1))
    ground.endpoints.statuses["tiny-c1"] = 503
    await ground.settle(operator, key)
    after = await times()
    flipped = {kind for kind in before if before[kind] != after[kind]}
    assert flipped == {"EndpointReady", "Degraded", "Ready"}
    ground.clock.advance(timedelta(hours=1))
    await ground.kube.merge(path_of(key), {"spec": {"deletionPolicy": {"drainSeconds": 5}}})
    await ground.settle(operator, key)
    assert await times() == after, "another generation is no transition"
    assert (await ground.get(key))["status"]["observedGeneration"] == 2


async def test_an_engine_that_stops_answering_is_told_and_keeps_its_route(ground: Ground) -> None:
    operator, key = await ready(ground)
    ground.endpoints.statuses["tiny-c1"] = 503
    await operator.look(key)
    assert await ground.is_ready(key), "it was asked a moment ago"
    ground.clock.advance(timedelta(minutes=2))
    assert await operator.look(key) == timedelta(seconds=5)
    conditions = await ground.conditions(key)
    assert conditions["Ready"] == ("False", "ProbeFailed")
    assert conditions["Degraded"] == ("True", "ProbeFailed")
    assert await ground.routed(key) == ["tiny-c1"], "what the gateway does with an engine it knows best"
    del ground.endpoints.statuses["tiny-c1"]
    ground.clock.advance(timedelta(seconds=6))
    await operator.look(key)
    assert await ground.is_ready(key)


async def test_what_serve_calls_ready_has_no_route_before_it_has_answered(ground: Ground) -> None:
    ground.endpoints.statuses["tiny-c1"] = 500
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    await ground.settle(operator, key)
    conditions = await ground.conditions(key)
    assert conditions["ServeReady"] == ("True", "Serving")
    assert conditions["Ready"] == ("False", "ProbeFailed")
    assert await ground.routes() == {}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path


def with_another_value(document: Document, path: tuple[Any, ...]) -> Document:
    changed = deepcopy(document)
    *parents, last = path
    at: Any = changed
    for name in parents:
        at = at[name]
    value = at[last]
    at[last] = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "changed"
    return changed


async def test_whatever_somebody_changes_in_our_objects_is_as_it_was_after_one_pass(ground: Ground) -> None:
    operator, key = await ready(ground, {"scaling": {"replicas": 3}})
    changed, refused = 0, 0
    for manifest in render(decode(await ground.get(key)), ground.environment):
        metadata = manifest["metadata"]
        path = resource_of(manifest).path(metadata["namespace"], metadata["name"])
        # Every fourth field of each, for a RayService has some hundred.
        for leaf in list(leaves({"spec": manifest["spec"], "metadata": {"labels": metadata["labels"]}}))[::4]:
            before = await ground.kube.get(path)
            answer = await ground.kube.ask("PUT", path, with_another_value(before, leaf))
            if answer.status == 422:
                refused += 1
                continue
            await operator.look(key)
            after = await ground.kube.get(path)
            assert (after["spec"], after["metadata"]["labels"]) == (
                before["spec"],
                before["metadata"]["labels"],
            ), leaf
            changed += 1
    assert changed > 50 > refused
    assert {reason for reason, _ in await ground.events(key)} == {"Ready", "DriftRepaired"}


async def test_what_others_have_in_our_objects_and_beside_our_entry_is_left_to_them(ground: Ground) -> None:
    operator, key = await ready(ground)
    theirs = {"metadata": {"labels": {"team": "search"}, "annotations": {"example.com/backup": "nightly"}}}
    objects = [
        service_path(key, "tiny-c1"),
        "/apis/networking.k8s.io/v1/namespaces/models/networkpolicies/tiny-pods",
        path_of(key),
    ]
    for path in objects:
        await ground.kube.merge(path, theirs)
    await ground.kube.merge(ROUTES, {"data": {"by-hand.json": '{"deployments": []}'}})
    writes = len(ground.server.writes)
    await operator.look(key)
    assert [str(call) for call in ground.server.writes[writes:]] == [], "and is no drift"
    # Whatever is written next leaves it alone too.
    await ground.kube.merge(path_of(key), {"spec": {"scheduling": {"queue": "batch"}, "exposure": {}}})
    await ground.kube.merge(objects[1], {"spec": {"policyTypes": ["Ingress"]}})
    await ground.settle(operator, key)
    for path in objects:
        metadata = (await ground.kube.get(path))["metadata"]
        assert metadata["labels"]["team"] == "search", path
        assert metadata["annotations"]["example.com/backup"] == "nightly", path
    await ground.kube.delete(path_of(key))
    await ground.settle(operator, key)
    assert list(await ground.routes()) == ["by-hand.json"]


async def test_an_object_that_somebody_deletes_comes_again(ground: Ground) -> None:
    operator, key = await ready(ground, {"scaling": {"replicas": 3}})
    paths = [
        "/apis/networking.k8s.io/v1/namespaces/models/networkpolicies/tiny-pods",
        "/apis/policy/v1/namespaces/models/poddisruptionbudgets/tiny-c1",
        "/apis/monitoring.coreos.com/v1/namespaces/models/podmonitors/tiny",
        service_path(key, "tiny-c1"),
    ]
    for path in paths:
        await ground.kube.delete(path)
    await ground.settle(operator, key)
    for path in paths:
        assert await ground.kube.get(path)
    assert await ground.is_ready(key)


@pytest.mark.parametrize("edit", [{"data": {"models.tiny.json": "nonsense"}}, {"data": None}])
async def test_an_edited_or_emptied_route_is_written_again(ground: Ground, edit: Document) -> None:
    operator, key = await ready(ground)
    await ground.kube.merge("/api/v1/namespaces/headrace/configmaps/headrace-deployments", edit)
    await operator.look(key)
    assert await ground.routed(key) == ["tiny-c1"]


async def test_a_field_that_is_no_longer_rendered_goes(ground: Ground) -> None:
    operator, key = await ready(ground, {"scheduling": {"queue": "batch"}})
    before = await ground.kube.get(service_path(key, "tiny-c1"))
    assert "kueue.x-k8s.io/queue-name" in before["metadata"]["labels"]
    await ground.kube.merge(path_of(key), {"spec": {"scheduling": None}})
    await operator.look(key)
    after = await ground.kube.get(service_path(key, "tiny-c1"))
    assert "kueue.x-k8s.io/queue-name" not in after["metadata"]["labels"]
    assert (
        after["metadata"]["annotations"][DIGEST_ANNOTATION]
        != before["metadata"]["annotations"][DIGEST_ANNOTATION]
    )


async def test_a_broken_rule_is_told_with_what_to_change_and_nothing_is_made(ground: Ground) -> None:
    operator, key = await ground.operator(), await ground.create("small", {"model": {"id": "gpt-9"}})
    await ground.settle(operator, key)
    assert (await ground.conditions(key))["Accepted"] == ("False", "ModelUnknown")
    ((reason, message),) = await ground.events(key)
    assert reason == "ModelUnknown"
    assert "glm-tiny" in message
    assert await ground.kube.items("/apis/ray.io/v1/rayservices") == []


async def test_a_field_of_a_later_release_is_told_and_does_not_keep_a_deployment_from_being_deleted(
    ground: Ground,
) -> None:
    operator, key = await ready(ground)
    kind = ground.server.store.kind("headrace.dev", "v1alpha1", "modeldeployments")
    kind.schema["properties"]["spec"]["properties"]["future"] = {"type": "string"}
    await ground.kube.merge(path_of(key), {"spec": {"future": "x"}})
    await operator.look(key)
    assert (await ground.conditions(key))["Accepted"] == ("False", "DeploymentUnreadable")
    assert await ground.routed(key) == ["tiny-c1"], "what runs goes on"
    writes = len(ground.server.writes)
    await operator.look(key)
    assert len(ground.server.writes) == writes
    await ground.kube.delete(path_of(key))
    await ground.settle(operator, key)
    assert await ground.routes() == {}
    ground.clock.advance(PROPAGATION + DRAIN)
    assert await ground.settle(operator, key) is None


async def test_a_change_that_breaks_a_rule_leaves_what_runs_alone(ground: Ground) -> None:
    operator, key = await ready(ground)
    before = await ground.kube.get(service_path(key, "tiny-c1"))
    await ground.kube.merge(path_of(key), {"spec": {"engine": {"args": ["--model=other"]}}})
    await ground.settle(operator, key)
    conditions = await ground.conditions(key)
    assert conditions["Accepted"] == ("False", "EngineArgumentForbidden")
    assert conditions["EndpointReady"] == ("True", "Answered")
    assert await ground.kube.get(service_path(key, "tiny-c1")) == before
    assert await ground.routed(key) == ["tiny-c1"]


async def test_the_scale_subresource_sets_the_replicas_of_an_external_autoscaler(ground: Ground) -> None:
    operator, key = await ready(
        ground, {"scaling": {"mode": "external", "replicas": 1, "minReplicas": 1, "maxReplicas": 4}}
    )
    await ground.kube.merge(f"{path_of(key)}/scale", {"spec": {"replicas": 3}})
    await ground.settle(operator, key)
    scale = await ground.kube.get(f"{path_of(key)}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    pods = await ground.kube.items("/api/v1/namespaces/models/pods", scale["status"]["selector"])
    assert len(pods) == 3
    clusters = await ground.kube.items("/apis/ray.io/v1/rayclusters")
    assert len(clusters) == 1, "another number of replicas is no reason for another cluster"
