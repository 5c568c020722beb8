"""One tenant can neither bear another's name, nor see or route to what is another's, nor use up what another was promised."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from headrace_platform.control.kubernetes_api import Conflict
from headrace_platform.control.observation import Key
from tests.platform.control.live.ground import DRAIN, PROPAGATION, Ground, Operator, path_of, service_path
from tests.platform.control.live.test_reconcile import ONE_GPU
from tests.support.kubernetes.calls import Fault

ACME = {**ONE_GPU, "tenantRef": {"org": "acme"}, "upgrade": {"strategy": "None"}}


@pytest.mark.parametrize(
    ("namespace", "changes"),
    [
        ("models", {"tenantRef": {"org": "acme"}}),  # a namespace of nobody's
        ("acme", {"tenantRef": {"org": "other"}}),
        ("acme", {}),  # to serve everybody is the seller's alone
    ],
)
async def test_a_deployment_bears_the_name_of_its_namespace_s_tenant_or_none(
    ground: Ground, namespace: str, changes: dict[str, Any]
) -> None:
    operator = await ground.operator()
    key = await ground.create("small", {**ONE_GPU, **changes}, namespace=namespace)
    await ground.settle(operator, key)
    assert await ground.conditions_of("Accepted", key) == ("False", "TenantOfAnotherNamespace")
    assert await ground.kube.items("/apis/ray.io/v1/rayservices") == []


async def test_tenants_have_routes_of_their_own_and_the_gateway_is_told_whose_they_are(
    ground: Ground,
) -> None:
    operator = await ground.operator()
    shared = await ground.create("small", ONE_GPU)
    dedicated = await ground.create("small", ACME, namespace="acme")
    for key in (shared, dedicated, shared):
        await ground.settle(operator, key)
    routes = await ground.routes()
    tenants = {name: [line.tenant for line in table.deployments] for name, table in routes.items()}
    assert tenants == {"models.tiny.json": [None], "acme.tiny.json": ["acme"]}


async def test_two_deployments_of_one_name_never_touch_each_other(ground: Ground) -> None:
    operator = await ground.operator()
    ours = await ground.create("small", ACME, namespace="acme")
    theirs = await ground.create("small", ONE_GPU)
    for key in (ours, theirs):
        await ground.settle(operator, key)
    before = await ground.kube.get(service_path(theirs, "tiny-c1"))
    await ground.kube.delete(path_of(ours))
    await ground.settle(operator, ours)
    assert await ground.kube.get(service_path(theirs, "tiny-c1")) == before
    assert await ground.routed(theirs) == ["tiny-c1"]
    assert await ground.is_ready(theirs)


async def test_a_quota_is_whoever_came_first_and_the_later_one_is_told_what_to_do(ground: Ground) -> None:
    operator = await ground.operator()
    first = await ground.create(
        "small", {**ACME, "scaling": {"replicas": 30}}, namespace="acme", name="first"
    )
    ground.clock.advance(timedelta(seconds=1))
    second = await ground.create(
        "small", {**ACME, "scaling": {"replicas": 3}}, namespace="acme", name="second"
    )
    # In whichever order they are looked at.
    for key in (second, first, second):
        await ground.settle(operator, key)
    assert await ground.is_ready(first)
    assert await ground.conditions_of("CapacityAvailable", second) == ("False", "QuotaExceeded")
    assert await ground.conditions_of("Accepted", second) == ("True", "Accepted")
    assert await ground.conditions_of("Ready", second) == ("False", "QuotaExceeded")
    (message,) = [message for reason, message in await ground.events(second) if reason == "QuotaExceeded"]
    assert "32 are allowed" in message
    await ground.kube.merge(path_of(second), {"spec": {"scaling": {"replicas": 2}}})
    await ground.settle(operator, second)
    assert await ground.is_ready(second)


async def test_what_outgrows_its_quota_goes_on_as_it_was(ground: Ground) -> None:
    operator = await ground.operator()
    key = await ground.create("small", {**ACME, "scaling": {"replicas": 2}}, namespace="acme")
    await ground.settle(operator, key)
    await ground.kube.merge(path_of(key), {"spec": {"scaling": {"replicas": 33}}})
    await ground.settle(operator, key)
    status = (await ground.get(key))["status"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert await ground.routed(key) == ["tiny-c1"]
    assert await ground.conditions_of("CapacityAvailable", key) == ("False", "QuotaExceeded")
    assert await ground.is_ready(key), "it serves; what it may not have is told beside that"


async def pair(ground: Ground, operator: Operator, *, older: int, younger: int) -> tuple[Key, Key]:
    """Two deployments of acme's, whose quota is 32; the older one is suspended."""
    first = await ground.create(
        "small", {**ACME, "scaling": {"replicas": older}, "suspend": True}, namespace="acme", name="first"
    )
    ground.clock.advance(timedelta(seconds=1))
    second = await ground.create(
        "small", {**ACME, "scaling": {"replicas": younger}}, namespace="acme", name="second"
    )
    for key in (first, second):
        await ground.settle(operator, key)
    return first, second


async def test_what_was_granted_is_not_taken_away_by_an_older_one_that_wakes_up(ground: Ground) -> None:
    operator = await ground.operator()
    first, second = await pair(ground, operator, older=8, younger=30)
    await ground.kube.merge(path_of(first), {"spec": {"suspend": False}})
    for key in (first, second, first):
        await ground.settle(operator, key)
    assert await ground.conditions_of("CapacityAvailable", first) == ("False", "QuotaExceeded")
    assert await ground.is_ready(second)
    assert len(await ground.kube.items("/api/v1/namespaces/acme/pods", "ray.io/node-type=worker")) == 30
    await ground.kube.merge(path_of(second), {"spec": {"scaling": {"replicas": 24}}})
    for key in (second, first):
        await ground.settle(operator, key)
    assert await ground.is_ready(first), "it has what was given back"


async def test_what_is_being_drained_is_not_granted_to_another_before_it_is_free(ground: Ground) -> None:
    operator = await ground.operator()
    first, second = await pair(ground, operator, older=8, younger=30)
    await ground.kube.merge(path_of(second), {"spec": {"suspend": True}})
    await ground.kube.merge(path_of(first), {"spec": {"suspend": False}})
    for key in (second, first):
        await ground.settle(operator, key)
    assert await ground.conditions_of("CapacityAvailable", first) == ("False", "QuotaExceeded")
    ground.clock.advance(PROPAGATION + DRAIN)
    for key in (second, first):
        await ground.settle(operator, key)
    assert await ground.is_ready(first)


async def test_of_two_passes_that_want_the_same_rest_at_once_one_begins_anew(ground: Ground) -> None:
    operator = await ground.operator()
    first, second = await pair(ground, operator, older=20, younger=1)
    released = asyncio.Event()
    claim = Fault(
        lambda call: call.resource == "modeldeployments/status" and call.name == second.name,
        held_until=released,
    )
    ground.server.script.faults.append(claim)
    await ground.kube.merge(path_of(second), {"spec": {"scaling": {"replicas": 30}}})
    growing = asyncio.create_task(operator.look(second))
    while claim.times:  # noqa: ASYNC110 (the server, in the same loop)
        await asyncio.sleep(0)
    # It has seen that there is room, and has not said so yet.
    await ground.kube.merge(path_of(first), {"spec": {"suspend": False}})
    await operator.look(first)
    released.set()
    with pytest.raises(Conflict, match="claims the same accelerators"):
        await growing
    for key in (second, first):
        await ground.settle(operator, key)
    assert await ground.is_ready(first)
    assert await ground.conditions_of("CapacityAvailable", second) == ("False", "QuotaExceeded")
    assert len(await ground.kube.items("/api/v1/namespaces/acme/pods", "ray.io/node-type=worker")) == 21


async def test_one_that_bears_a_tenant_s_name_elsewhere_uses_up_nothing_of_the_tenant_s(
    ground: Ground,
) -> None:
    operator = await ground.operator()
    stranger = await ground.create("small", {**ACME, "scaling": {"replicas": 30}}, namespace="models")
    ground.clock.advance(timedelta(seconds=1))
    ours = await ground.create("small", {**ACME, "scaling": {"replicas": 30}}, namespace="acme")
    for key in (stranger, ours):
        await ground.settle(operator, key)
    assert await ground.conditions_of("Accepted", stranger) == ("False", "TenantOfAnotherNamespace")
    assert await ground.is_ready(ours)
