"""The operator's process, kopf and all, against the API over HTTP."""

import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests.chart.operator import documented_role
from tests.platform.control.live.billing import TOKEN, serving_billing
from tests.platform.control.live.ground import Ground, RealClock, ground, path_of, service_path
from tests.platform.control.live.process import TOKEN_OF_THE_OPERATOR, kuberay_at_work, running, until
from tests.platform.control.live.test_reconcile import ONE_GPU
from tests.platform.control.live.test_tenants import ACME
from tests.support.kubernetes.calls import Fault

NO_DRAIN = {**ONE_GPU, "deletionPolicy": {"drainSeconds": 0}}
UnusedPort = Callable[[], int]


@pytest.fixture(name="ground")
async def real_time_ground() -> AsyncIterator[Ground]:
    async with ground(RealClock()) as fresh, kuberay_at_work(fresh):
        yield fresh


async def test_a_deployment_lives_and_dies_under_a_real_operator(
    ground: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    async with running(ground, tmp_path, unused_port()) as operator:
        key = await ground.create("small", NO_DRAIN)
        await until(lambda: ground.is_ready(key))
        await until(operator.is_healthy)
        assert await ground.routed(key) == ["tiny-c1"]
        writes = [call for call in ground.server.writes if call.manager.startswith("headrace")]

        # Watches are dropped and what they had missed is forgotten; a change in between is seen all the same.
        ground.server.drop_watches()
        await ground.kube.merge(service_path(key, "tiny-c1"), {"spec": {"rayClusterDeletionDelaySeconds": 1}})
        ground.server.store.compact()

        async def is_repaired() -> bool:
            service = await ground.kube.get(service_path(key, "tiny-c1"))
            return bool(service["spec"]["rayClusterDeletionDelaySeconds"] == 1860)

        await until(is_repaired)
        await ground.kube.delete(path_of(key))

        async def is_gone() -> bool:
            return (await ground.kube.ask("GET", path_of(key))).status == 404

        await until(is_gone)
        assert await ground.routes() == {}
        assert await ground.kube.items("/apis/ray.io/v1/rayservices") == []
        assert await operator.end() == 0
    assert writes, "and all of it was the operator's doing"
    assert "Traceback" not in operator.log.read_text()


async def test_an_operator_that_is_killed_is_followed_by_one_that_finishes(
    ground: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    port = unused_port()
    async with running(ground, tmp_path, port) as first:
        key = await ground.create("small", NO_DRAIN)

        async def has_begun() -> bool:
            return (await ground.kube.ask("GET", service_path(key, "tiny-c1"))).status == 200

        await until(has_begun)
        await first.end(signal.SIGKILL)
    async with running(ground, tmp_path, port):
        await until(lambda: ground.is_ready(key))


async def test_of_two_operators_one_works_and_the_other_takes_over_when_it_leaves(
    ground: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    async def holder() -> str:
        answer = await ground.kube.ask(
            "GET", "/apis/coordination.k8s.io/v1/namespaces/headrace/leases/headrace-operator"
        )
        return str(answer.document.get("spec", {}).get("holderIdentity", ""))

    async def first_holds() -> bool:
        return await holder() == "first"

    async def second_holds() -> bool:
        return await holder() == "second"

    async with running(ground, tmp_path, unused_port(), LEASES="true", IDENTITY="first") as first:
        await until(first_holds)
        async with running(ground, tmp_path, unused_port(), LEASES="true", IDENTITY="second") as second:
            await until(second.is_healthy)
            key = await ground.create("small", NO_DRAIN)
            await until(lambda: ground.is_ready(key))
            assert await holder() == "first"
            assert await first.end() == 0
            await until(second_holds)


async def test_an_operator_leaves_in_time_whoever_does_not_answer_and_leaves_nobody_behind(
    ground: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    async with running(ground, tmp_path, unused_port(), LEASES="true") as operator:
        key = await ground.create("small", NO_DRAIN)
        await until(lambda: ground.is_ready(key))
        ours = (call for call in ground.server.calls if call.caller == TOKEN_OF_THE_OPERATOR)
        assert any(call.resource == "leases" for call in ours)
        hangs = Fault(lambda call: call.caller == TOKEN_OF_THE_OPERATOR, delay_seconds=60, times=10_000)
        ground.server.script.faults.append(hangs)
        await ground.kube.merge(path_of(key), {"spec": {"scaling": {"replicas": 2}}})
        assert psutil.Process(operator.process.pid).children() == []
        assert await operator.end() == 0
    assert "Traceback" not in operator.log.read_text()


async def test_settings_that_can_t_be_used_end_the_process_with_what_is_wrong(
    ground: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    async with running(ground, tmp_path, unused_port(), ENVIRONMENT=str(tmp_path / "none.yaml")) as operator:
        assert await operator.process.wait() == 2
    assert "none.yaml" in operator.log.read_text()


async def test_the_operator_tells_billing_and_asks_for_no_more_than_its_documented_role(
    ground: Ground, tmp_path: Path, unused_port: UnusedPort
) -> None:
    ground.server.calls.clear()
    async with (
        serving_billing() as billing,
        running(
            ground, tmp_path, unused_port(), LEASES="true", BILLING_URL=billing.url, INGEST_TOKEN=TOKEN
        ) as operator,
    ):
        exposed = {"exposure": {"hostname": "acme.example.com"}, "deletionPolicy": {"drainSeconds": 0}}
        changes = {**ACME, **exposed, "scaling": {"replicas": 2}}
        key = await ground.create("small", changes, namespace="acme")
        await until(lambda: ground.is_ready(key))
        begun = datetime.now(UTC)

        async def has_held_for_a_while() -> bool:
            return datetime.now(UTC) - begun > timedelta(seconds=1.5)

        await until(has_held_for_a_while)
        await ground.kube.delete(path_of(key))

        async def is_gone_and_told() -> bool:
            is_gone = (await ground.kube.ask("GET", path_of(key))).status == 404
            return is_gone and {event.cluster for event in billing.events.values()} == {"acme/tiny-c1"}

        await until(is_gone_and_told)
        await operator.end()
    used = {
        (call.group, call.resource, call.verb)
        for call in ground.server.calls
        if call.caller == TOKEN_OF_THE_OPERATOR
    }
    assert len(used) > 15
    assert sorted(used - documented_role()) == []
