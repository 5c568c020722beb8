"""The API server refuses, stumbles, and dies at any call; the operator dies with it, and the next one ends up the same."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from headrace_contracts.deployments import decode_table
from headrace_platform.control.kubernetes_api import ApiUnavailable, Conflict
from headrace_platform.control.observation import Key
from tests.platform.control.live.ground import DRAIN, PROPAGATION, Ground, path_of
from tests.platform.control.live.test_reconcile import ONE_GPU, ready
from tests.platform.control.live.test_tenants import ACME
from tests.support.kubernetes.calls import Call, Fault
from tests.support.kubernetes.ownership import Manager
from tests.support.kubernetes.store import Change

# A story of more has a pass in it that writes for ever.
WRITES_MAX = 40
EXPOSED = {**ACME, "exposure": {"hostname": "acme.example.com"}}
OWNER = Manager("somebody", "Update")


def is_of_the_operator(call: Call) -> bool:
    return call.manager.startswith("headrace")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_refusal_is_asked_again_within_the_pass(ground: Ground, status: int) -> None:
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    # One in three calls, reads and writes alike.
    count = iter(range(10_000))
    ground.server.script.faults.append(
        Fault(lambda call: is_of_the_operator(call) and next(count) % 3 == 0, times=10_000, status=status)
    )
    await ground.settle(operator, key)
    assert await ground.is_ready(key)


async def test_a_server_that_stays_away_ends_the_pass_and_leaves_it_to_the_next(ground: Ground) -> None:
    operator, key = await ready(ground)
    ground.server.script.faults.append(Fault(is_of_the_operator, times=3, status=503))
    with pytest.raises(ApiUnavailable):
        await operator.look(key)
    assert await operator.look(key) == timedelta(seconds=60)


async def test_somebody_else_s_write_in_between_is_a_conflict_and_not_undone(ground: Ground) -> None:
    operator, key = await ground.operator(), await ground.create("small", ONE_GPU)
    store = ground.server.store

    def steps_in(call: Call) -> bool:
        """Just before the finalizer is written, somebody changes a label."""
        if call.verb == "patch" and call.resource == "modeldeployments" and is_of_the_operator(call):
            kind = store.kind("headrace.dev", "v1alpha1", "modeldeployments")
            store.merge(kind, key.namespace, key.name, {"metadata": {"labels": {"a": "b"}}}, OWNER)
            return True
        return False

    ground.server.script.faults.append(Fault(steps_in))
    with pytest.raises(Conflict):
        await operator.look(key)
    await ground.settle(operator, key)
    assert (await ground.get(key))["metadata"]["labels"] == {"a": "b"}
    assert await ground.is_ready(key)


async def comes_up(ground: Ground) -> Key:
    return await ground.create("small", {**EXPOSED, "scaling": {"replicas": 2}}, namespace="acme")


async def changes(ground: Ground) -> Key:
    """Fewer clusters, another pod template, a shorter drain."""
    _, key = await ready(ground, {"scaling": {"replicas": 51}})
    change = {
        "scaling": {"replicas": 3},
        "scheduling": {"queue": "batch", "priorityClassName": "urgent"},
        "deletionPolicy": {"drainSeconds": 60},
    }
    await ground.kube.merge(path_of(key), {"spec": change})
    return key


async def is_suspended(ground: Ground) -> Key:
    _, key = await ready(ground)
    await ground.kube.merge(path_of(key), {"spec": {"suspend": True}})
    return key


async def is_deleted(ground: Ground) -> Key:
    operator, key = await ground.operator(), await ground.create("small", EXPOSED, namespace="acme")
    await ground.settle(operator, key)
    assert await ground.is_ready(key)
    await ground.kube.delete(path_of(key))
    return key


async def until_it_rests(ground: Ground, key: Key) -> None:
    """Until nothing is left to do, also when everything has drained."""
    operator = await ground.operator()
    await ground.settle(operator, key)
    ground.clock.advance(PROPAGATION + DRAIN)
    await ground.settle(operator, key)


async def crash(ground: Ground, key: Key, *, at: int) -> bool:
    """An operator that dies with its n-th write done and nobody told; whether it got there."""
    script = ground.server.script
    script.dies_at, script.dies_done = at, True
    script.counts = lambda call: call.is_write and is_of_the_operator(call)
    try:
        await until_it_rests(ground, key)
    except (ApiUnavailable, aiohttp.ClientConnectionError):
        # That an event could not be told stops no pass; then it is KubeRay that meets the dead server.
        return True
    finally:
        script.dies_at = None
    return False


class Order:
    """Watches over what must never happen: a cluster goes while the gateway may still send to it."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.broken: list[str] = []
        self.withdrawn: dict[str, datetime] = {}
        self.routed: set[str] = set()
        ground.server.store.listeners.append(self.see)

    def see(self, change: Change) -> None:
        if change.kind.kind == "ConfigMap" and change.object["metadata"]["name"] == "headrace-deployments":
            tables = [decode_table(text.encode()) for text in change.object.get("data", {}).values()]
            now = {line.id.partition("/")[2] for table in tables for line in table.deployments}
            self.withdrawn |= dict.fromkeys(self.routed - now, self.ground.clock.now())
            self.routed = now
        elif change.kind.kind == "RayService":
            name = change.object["metadata"]["name"]
            before = change.before or {"spec": {}}
            suspends = change.object["spec"]["suspend"] and not before["spec"].get("suspend")
            if not suspends and change.type != "DELETED":
                return
            rested = self.ground.clock.now() - self.withdrawn.get(name, datetime.min.replace(tzinfo=UTC))
            if name in self.routed or rested < PROPAGATION + timedelta(seconds=60):
                self.broken.append(f"{change.type} {name} after {rested}")

    def forget(self) -> None:
        self.withdrawn.clear()
        self.routed.clear()


@pytest.mark.parametrize("story", [comes_up, changes, is_suspended, is_deleted])
async def test_a_crash_at_any_call_ends_in_the_state_of_no_crash_and_in_the_same_order(
    ground: Ground, story: Callable[[Ground], Awaitable[Key]]
) -> None:
    """At each write, done but not answered. A crash at a read leaves what the write before it has left."""
    order = Order(ground)
    key = await story(ground)
    store, beginning, moment = ground.server.store, ground.server.store.snapshot(), ground.clock.moment
    routed = set(order.routed)
    await until_it_rests(ground, key)
    wanted = ground.state()
    crashes = 0
    while True:
        store.restore(beginning)
        ground.clock.moment = moment
        order.forget()
        order.routed |= routed
        if not await crash(ground, key, at=crashes):
            break
        await until_it_rests(ground, key)
        assert ground.state() == wanted, f"after a crash at write {crashes}"
        crashes += 1
    assert order.broken == []
    assert 5 < crashes < WRITES_MAX
