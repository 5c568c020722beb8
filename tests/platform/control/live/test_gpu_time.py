"""Accelerator time reaches billing once, through crashes, absences and refusals of everybody concerned."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
from pydantic import SecretStr

from headrace_contracts.usage import Grade
from headrace_platform.control.gpu_time import meter
from headrace_platform.control.gpu_time.billing import BillingDoor
from headrace_platform.control.gpu_time.meter import Undelivered
from headrace_platform.control.kubernetes_api import ApiUnavailable
from headrace_platform.control.observation import Key
from tests.platform.control.live.billing import TOKEN, BillingDouble, serving_billing
from tests.platform.control.live.ground import BEGINNING, DRAIN, PROPAGATION, Ground, Operator, path_of
from tests.platform.control.live.test_reconcile import ONE_GPU
from tests.platform.control.live.test_tenants import ACME
from tests.support.kubernetes.store import Change

TWO_GPUS = {**ACME, "accelerator": {"profile": "h200", "count": 2}, "parallelism": {"tensor": 2}}
PODS = "/api/v1/namespaces/acme/pods"
RECORDS = "/api/v1/namespaces/headrace/configmaps"
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def billing() -> AsyncIterator[BillingDouble]:
    async with serving_billing() as double:
        yield double


@pytest.fixture
async def door(billing: BillingDouble) -> AsyncIterator[BillingDoor]:
    async with aiohttp.ClientSession() as session:
        yield BillingDoor(session, billing.url, SecretStr(TOKEN))


async def serving(ground: Ground, door: BillingDoor) -> tuple[Operator, Key]:
    """One replica of two accelerators, up since 9:00."""
    operator = await ground.operator(billing=door)
    key = await ground.create("small", TWO_GPUS, namespace="acme")
    await ground.settle(operator, key)
    await operator.meter.observe()
    return operator, key


def watch(ground: Ground, operator: Operator) -> None:
    """What kopf's watch tells a running operator."""

    def tell(change: Change) -> None:
        if change.type == "DELETED" and change.kind.kind == "Pod":
            operator.meter.saw_deleted(change.object)

    ground.server.store.listeners.append(tell)


async def pass_time(ground: Ground, operator: Operator, minutes: int) -> None:
    """A look and a shipment every ten minutes."""
    for _ in range(minutes // 10):
        ground.clock.advance(10 * MINUTE)
        await operator.meter.observe()
        await operator.meter.ship()


async def test_hours_are_sent_when_they_are_over_and_the_rest_when_the_deployment_has_gone(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    operator, key = await serving(ground, door)
    watch(ground, operator)
    await pass_time(ground, operator, 50)
    assert billing.events == {}
    await pass_time(ground, operator, 30)
    assert billing.gpu_minutes() == 2 * 60
    (event,) = billing.events.values()
    assert (event.org, event.deployment, event.cluster) == ("acme", "acme/tiny", "acme/tiny-c1")
    assert (event.model, event.profile, event.accelerators) == ("glm-tiny", "h200", 2)
    await ground.kube.delete(path_of(key))
    await operator.look(key)
    ground.clock.advance(PROPAGATION + DRAIN)  # twelve minutes
    await ground.settle(operator, key)
    await operator.meter.ship()
    assert (await ground.kube.ask("GET", path_of(key))).status == 404
    assert billing.gpu_minutes() == 2 * 92
    assert {grade for _, _, grade in billing.events} == {Grade.FINAL}
    assert await ground.kube.items(RECORDS, "headrace.dev/gpu-time=true") == [], "nothing is left to send"


async def test_an_operator_that_was_away_for_two_hours_tells_of_what_was_there_all_the_time(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    operator, _ = await serving(ground, door)
    await pass_time(ground, operator, 30)
    ground.clock.advance(timedelta(hours=2))
    operator = await ground.operator(billing=door)
    await operator.meter.observe()
    await operator.meter.ship()
    assert billing.gpu_minutes() == 2 * 120
    assert {grade for _, _, grade in billing.events} == {Grade.FINAL}
    await pass_time(ground, operator, 30)
    assert billing.gpu_minutes() == 2 * 180


async def test_a_pod_that_went_while_the_operator_was_away_is_counted_until_it_was_last_seen(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    operator, _ = await serving(ground, door)
    await pass_time(ground, operator, 70)
    ground.clock.advance(timedelta(minutes=20))
    ground.ray.workers["tiny-c1"] = 0
    await ground.ray.settle()
    ground.clock.advance(timedelta(hours=2))
    operator = await ground.operator(billing=door)
    await operator.meter.observe()
    await operator.meter.ship()
    assert billing.gpu_minutes() == 2 * 70, "twenty minutes nobody saw, and nobody pays"
    assert sorted(grade for _, _, grade in billing.events) == [Grade.ESTIMATED, Grade.FINAL]


async def test_what_billing_does_not_take_is_sent_again_and_never_twice(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    operator, _ = await serving(ground, door)
    ground.clock.advance(61 * MINUTE)
    await operator.meter.observe()
    billing.is_away = True
    with pytest.raises(Undelivered):
        await operator.meter.ship()
    billing.is_away, billing.loses_answers = False, True
    with pytest.raises(Undelivered):
        await operator.meter.ship()
    billing.loses_answers = False
    operator = await ground.operator(billing=door)
    await operator.meter.ship()
    await operator.meter.ship()
    assert billing.gpu_minutes() == 2 * 60
    assert billing.conflicts == []


async def observe_and_ship(ground: Ground, operator: Operator) -> None:
    for _ in range(3):
        ground.clock.advance(MINUTE)
        await operator.meter.observe()
        await operator.meter.ship()


async def test_a_crash_at_any_write_of_a_record_loses_and_doubles_nothing(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    await serving(ground, door)
    script = ground.server.script
    for number in range(8):
        script.dies_at, script.dies_done = number % 2, True
        script.counts = lambda call: call.is_write and call.resource == "configmaps"
        operator = await ground.operator(billing=door)
        ground.clock.advance(15 * MINUTE)
        with pytest.raises(ApiUnavailable):
            await observe_and_ship(ground, operator)
        script.dies_at = None
    operator = await ground.operator(billing=door)
    ground.clock.advance(timedelta(hours=1))
    await operator.meter.observe()
    await operator.meter.ship()
    hours = (ground.clock.now() - BEGINNING) // timedelta(hours=1)
    assert billing.gpu_minutes() == 2 * 60 * hours
    assert billing.conflicts == []


async def test_a_pod_with_our_label_and_no_deployment_is_nobody_s(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    labels = {"headrace.dev/deployment": "ghost"}
    await ground.kube.create(PODS, {"metadata": {"name": "p", "labels": labels}, "spec": {"containers": []}})
    operator = await ground.operator(billing=door)
    await operator.meter.observe()
    assert await ground.kube.items(RECORDS, "headrace.dev/gpu-time=true") == []


async def test_a_record_that_somebody_has_spoilt_holds_up_no_other_and_is_left_to_be_mended(
    ground: Ground, door: BillingDoor, billing: BillingDouble
) -> None:
    operator, key = await serving(ground, door)
    other = await ground.create("small", ONE_GPU)
    await ground.settle(operator, other)
    await operator.meter.observe()
    await pass_time(ground, operator, 10)
    spoilt = f"{RECORDS}/gpu-time.models.tiny"
    whole = (await ground.kube.get(spoilt))["data"]
    await ground.kube.merge(spoilt, {"data": {"held.json": "nonsense"}})
    await pass_time(ground, operator, 60)
    assert {event.deployment for event in billing.events.values()} == {str(key)}
    assert billing.gpu_minutes() == 2 * 60
    assert (await ground.kube.get(spoilt))["data"] == {"held.json": "nonsense"}
    await ground.kube.delete(path_of(other))
    await operator.look(other)
    ground.clock.advance(PROPAGATION + DRAIN)
    assert await ground.settle(operator, other) is None, "nor does it hold its deployment up"
    await ground.kube.merge(spoilt, {"data": whole})
    await pass_time(ground, operator, 10)
    assert {event.deployment for event in billing.events.values()} == {str(key), str(other)}


async def test_an_operator_that_waits_for_its_turn_remembers_no_more_than_the_newest_last_words(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "LAST_WORDS_MAX", 1)
    operator = await ground.operator()
    key = await ground.create("small", {**TWO_GPUS, "scaling": {"replicas": 2}}, namespace="acme")
    await ground.settle(operator, key)
    await operator.meter.observe()
    watch(ground, operator)
    ground.clock.advance(10 * MINUTE)
    ground.ray.workers["tiny-c1"] = 0
    await ground.ray.settle()
    await operator.meter.observe()
    (record,) = await ground.kube.items(RECORDS, "headrace.dev/gpu-time=true")
    ended = json.loads(record["data"]["held.json"])
    assert sorted(held.get("is_estimated", False) for held in ended) == [False, True]
