"""What goes away goes in an order that loses no request: route, drain, clusters, the rest."""

from datetime import timedelta

import pytest

from headrace_platform.control.observation import Key
from tests.platform.control.live.ground import DRAIN, PROPAGATION, ROUTES, Ground, path_of, service_path
from tests.platform.control.live.test_reconcile import ONE_GPU, ready
from tests.platform.control.live.test_tenants import ACME
from tests.support.kubernetes.calls import Call


async def exists(ground: Ground, path: str) -> bool:
    return (await ground.kube.ask("GET", path)).status == 200


async def granted(ground: Ground, key: Key) -> int:
    (grant,) = (await ground.get(key))["status"]["granted"]
    return int(grant["accelerators"])


def kinds_written(calls: list[Call]) -> list[str]:
    """What was written, in order, without repetitions."""
    return list(dict.fromkeys(f"{call.verb} {call.resource}" for call in calls if call.manager != "kubectl"))


async def test_a_deleted_deployment_loses_its_route_first_drains_and_then_goes(ground: Ground) -> None:
    operator, key = await ready(ground)
    begun = len(ground.server.writes)
    await ground.kube.delete(path_of(key))
    assert await operator.look(key) == PROPAGATION + DRAIN
    assert await ground.routes() == {}
    left = (await ground.kube.get(ROUTES))["data"]
    assert list(left) == ["README"], "by which gateways know that nothing else is meant to be there"
    assert await ground.conditions_of("Ready", key) == ("False", "Deleting")
    ground.clock.advance(PROPAGATION + DRAIN - timedelta(seconds=1))
    assert await operator.look(key) == timedelta(seconds=1)
    assert await exists(ground, service_path(key, "tiny-c1")), "requests may still be running"
    ground.clock.advance(timedelta(seconds=1))
    assert await ground.settle(operator, key) is None
    for path in (path_of(key), service_path(key, "tiny-c1")):
        assert not await exists(ground, path)
    assert await ground.kube.items("/api/v1/namespaces/models/pods") == []
    ours = [c for c in ground.server.writes[begun:] if c.manager.startswith("headrace")]
    order = kinds_written(ours)
    assert order.index("patch configmaps") < order.index("delete rayservices")
    assert ours[-1].resource == "modeldeployments", "the finalizer goes last"


async def test_a_deployment_that_never_had_a_route_goes_at_once(ground: Ground) -> None:
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    await operator.look(key)
    await operator.look(key)
    await ground.kube.delete(path_of(key))
    assert await ground.settle(operator, key) is None
    assert not await exists(ground, path_of(key))


async def test_a_node_that_keeps_its_pods_holds_a_deletion_up_for_a_while_and_not_for_ever(
    ground: Ground,
) -> None:
    operator, key = await ready(ground)
    pods = await ground.kube.items("/api/v1/namespaces/models/pods")
    for pod in pods:
        path = f"/api/v1/namespaces/models/pods/{pod['metadata']['name']}"
        await ground.kube.merge(path, {"metadata": {"finalizers": ["example.com/stuck"]}})
    await ground.kube.delete(path_of(key))
    await operator.look(key)
    ground.clock.advance(PROPAGATION + DRAIN)
    await operator.look(key)
    assert await operator.look(key) == timedelta(seconds=5)
    ground.clock.advance(timedelta(minutes=15))
    assert await operator.look(key) is None
    assert not await exists(ground, path_of(key))
    assert "NotAllGone" in {reason for reason, _ in await ground.events(key)}


async def test_what_is_outside_of_the_namespace_is_deleted_too(ground: Ground) -> None:
    operator = await ground.operator()
    keys = [
        await ground.create(
            "small", {**ACME, "exposure": {"hostname": hostname}}, namespace="acme", name=name
        )
        for name, hostname in (("ours", "acme.example.com"), ("theirs", "b.example.com"))
    ]
    for key in keys:
        await ground.settle(operator, key)
    ours, theirs = keys
    await ground.kube.delete(path_of(ours))
    await operator.look(ours)
    names = [r["metadata"]["name"] for r in await ground.kube.items(HTTP_ROUTES)]
    assert names == ["acme.theirs"]
    assert await ground.routed(theirs) == ["theirs-c1"]


HTTP_ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/headrace/httproutes"


async def test_a_suspended_deployment_drains_before_it_gives_its_accelerators_back_and_comes_again(
    ground: Ground,
) -> None:
    operator, key = await ready(ground)
    await ground.kube.merge(path_of(key), {"spec": {"suspend": True}})
    await ground.settle(operator, key)
    assert await ground.routes() == {}
    assert not (await ground.kube.get(service_path(key, "tiny-c1")))["spec"]["suspend"]
    assert await ground.conditions_of("Ready", key) == ("False", "Draining")
    ground.clock.advance(PROPAGATION + DRAIN)
    await ground.settle(operator, key)
    assert await ground.kube.items("/api/v1/namespaces/models/pods") == []
    assert await ground.conditions_of("Ready", key) == ("False", "Suspended")
    await ground.kube.merge(path_of(key), {"spec": {"suspend": False}})
    await ground.settle(operator, key)
    assert await ground.is_ready(key)
    assert await ground.routed(key) == ["tiny-c1"]


async def test_a_cluster_too_many_loses_its_line_first_and_the_others_serve_on(ground: Ground) -> None:
    operator, key = await ready(ground, {"scaling": {"replicas": 120}})
    assert await ground.routed(key) == ["tiny-c1", "tiny-c2", "tiny-c3"]
    await ground.kube.merge(path_of(key), {"spec": {"scaling": {"replicas": 40}}})
    await ground.settle(operator, key)
    assert await ground.routed(key) == ["tiny-c1"]
    assert await exists(ground, service_path(key, "tiny-c3")), "it still drains"
    assert await granted(ground, key) == 2 * 120, "and nobody else has its accelerators"
    ground.clock.advance(PROPAGATION + DRAIN)
    await ground.settle(operator, key)
    services = await ground.kube.items("/apis/ray.io/v1/rayservices")
    assert [service["metadata"]["name"] for service in services] == ["tiny-c1"]
    assert await ground.is_ready(key)
    assert await granted(ground, key) == 2 * 40


@pytest.mark.parametrize("edit", ["yesterday", "2026-11-25T00:00:00", "2099-01-01T00:00:00Z"])
async def test_an_edited_mark_makes_a_deletion_wait_as_long_as_ever(ground: Ground, edit: str) -> None:
    operator, key = await ready(ground)
    await ground.kube.delete(path_of(key))
    await operator.look(key)
    await ground.kube.merge(path_of(key), {"metadata": {"annotations": {"headrace.dev/withdrawn-at": edit}}})
    assert await operator.look(key) == PROPAGATION + DRAIN
