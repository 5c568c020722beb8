"""One tenant can neither bear another's name, nor see or route to what is another's, nor use up what another was promised."""

from datetime import timedelta
from typing import Any

import pytest

from tests.platform.control.live.ground import Ground, path_of, service_path
from tests.platform.control.live.test_reconcile import ONE_GPU

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
