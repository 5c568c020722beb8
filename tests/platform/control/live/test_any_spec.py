"""Whatever the API server takes comes to rest, is told to its owner, and leaves nothing behind when it goes."""

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, event, given, settings

from headrace_platform.control.capacity import capacity_wanted
from headrace_platform.control.deployment import decode
from headrace_platform.control.observation import Key
from headrace_platform.control.rules import violations
from headrace_platform.control.tenancy import tenant_violation
from tests.platform.control.examples import environment
from tests.platform.control.live.ground import PROPAGATION, Ground, Operator, ground, path_of
from tests.platform.control.specs import changed_examples
from tests.support.kubernetes.client import Refused

TENANT = "acme"
ENVIRONMENT = environment(
    {"quotas": {TENANT: {"h200": 10**9, "cpu": 10**9}}, "sharedQuota": {"h200": 10**9, "cpu": 10**9}}
)
# More of them tell nothing more, and KubeRay's double is slow.
PODS_MAX = 24
DRAIN_MAX = timedelta(days=1)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(changed_examples())
def test_whatever_the_api_server_takes_comes_to_rest_and_goes_without_a_trace(whole: dict[str, Any]) -> None:
    is_acme_s = whole["spec"].get("tenantRef", {}).get("org") == TENANT
    whole["metadata"] = {
        "name": whole["metadata"]["name"],
        "namespace": TENANT if is_acme_s else "models",
    }
    asyncio.run(live_and_go(whole))


async def live_and_go(whole: dict[str, Any]) -> None:
    async with ground() as cluster:
        cluster.environment = ENVIRONMENT
        untouched = names(cluster)
        try:
            key = await cluster.create_whole(whole)
        except Refused as refused:
            event(f"refused by the API server: {refused.status}")
            return
        deployment = decode(await cluster.get(key))
        # The namespaces of `ground` belong to the tenant of their name, or to nobody.
        foreign = tenant_violation(deployment, TENANT if key.namespace == TENANT else None)
        broken = [*violations(deployment, ENVIRONMENT), *([foreign] if foreign else [])]
        if not broken:
            wanted = capacity_wanted(deployment, ENVIRONMENT)
            if wanted.replicas * wanted.hosts > PODS_MAX:
                event("of too many pods")
                return
        event("breaks a rule" if broken else "served")
        operator = await cluster.operator()
        await cluster.settle(operator, key)
        await rests_and_tells(cluster, operator, key, is_broken=bool(broken))
        await cluster.kube.delete(path_of(key))
        await cluster.settle(operator, key)
        cluster.clock.advance(PROPAGATION + DRAIN_MAX)
        assert await cluster.settle(operator, key) is None
        assert names(cluster) == untouched
        assert await cluster.routes() == {}


async def rests_and_tells(cluster: Ground, operator: Operator, key: Key, *, is_broken: bool) -> None:
    writes = len(cluster.server.writes)
    await operator.look(key)
    assert [str(call) for call in cluster.server.writes[writes:]] == []
    conditions = {c["type"]: c for c in (await cluster.get(key))["status"]["conditions"]}
    ready = conditions["Ready"]
    if is_broken:
        assert ready["status"] == "False"
        assert ready["message"], "its owner has to know what to change"
    elif not (await cluster.get(key))["spec"].get("suspend"):
        assert ready["status"] == "True", conditions


def names(cluster: Ground) -> list[tuple[str, str, str]]:
    """Of all that there is, but events and ConfigMaps: the gateway's table and the records of GPU time stay."""
    return [
        (kind.kind, document["metadata"].get("namespace", ""), document["metadata"]["name"])
        for kind in cluster.server.store.kinds
        if kind.kind not in ("Event", "ConfigMap")
        for document in cluster.server.store.select(kind)
    ]
