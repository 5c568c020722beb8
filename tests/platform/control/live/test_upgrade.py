"""What needs a new cluster gets it beside the old one, in its window, and what does not needs none."""

from datetime import timedelta

from tests.platform.control.examples import SHA256
from tests.platform.control.live.ground import Ground, path_of, service_path
from tests.platform.control.live.test_reconcile import ready
from tests.support.kubernetes.kuberay import Stage

NEW_CLUSTER = {"spec": {"scheduling": {"priorityClassName": "urgent"}}}
FLASH = {"sha256": SHA256, "pvc": {"claimName": "flash"}}
ANOTHER_MODEL = {**NEW_CLUSTER["spec"], "model": {"id": "glm-4.7-flash", "source": FLASH}}
SHARES = {"scaling": {"replicas": 2}, "upgrade": {"strategy": "Incremental"}}
CLUSTERS = "/apis/ray.io/v1/rayclusters"


async def test_an_upgrade_is_told_while_both_clusters_are_there_and_the_route_stays(ground: Ground) -> None:
    operator, key = await ready(ground)
    ground.ray.stages["tiny-c1"] = Stage.PENDING
    await ground.kube.merge(path_of(key), NEW_CLUSTER)
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("True", "NewCluster")
    assert await ground.conditions_of("CapacityAvailable", key) == ("False", "Unschedulable")
    assert await ground.is_ready(key)
    assert await ground.routed(key) == ["tiny-c1"]
    del ground.ray.stages["tiny-c1"]
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("False", "UpToDate")
    assert len(await ground.kube.items(CLUSTERS)) == 1
    assert await ground.is_ready(key)


async def test_a_new_cluster_is_asked_for_a_completion_of_its_own(ground: Ground) -> None:
    operator, key = await ready(ground)
    ground.endpoints.statuses["tiny-c1"] = 500
    await ground.kube.merge(path_of(key), NEW_CLUSTER)
    await ground.settle(operator, key)
    assert await ground.conditions_of("Ready", key) == ("False", "ProbeFailed")


async def test_a_line_changes_to_another_model_when_that_one_has_answered_and_not_before(
    ground: Ground,
) -> None:
    operator, key = await ready(ground)
    ground.endpoints.models["tiny-c1"] = "glm-tiny"
    ground.ray.stages["tiny-c1"] = Stage.CLUSTER_READY
    await ground.kube.merge(path_of(key), {"spec": ANOTHER_MODEL})
    for _ in range(3):
        await ground.settle(operator, key)
        (line,) = (await ground.routes())["models.tiny.json"].deployments
        assert (line.model, line.engine_model) == ("glm-tiny", "glm-tiny")
        assert await ground.is_ready(key), await ground.conditions(key)
        ground.clock.advance(timedelta(minutes=2))
    ground.endpoints.models["tiny-c1"] = "glm-4.7-flash"
    del ground.ray.stages["tiny-c1"]
    await ground.settle(operator, key)
    (line,) = (await ground.routes())["models.tiny.json"].deployments
    assert line.model == "glm-4.7-flash"
    assert await ground.is_ready(key)


async def test_a_window_holds_a_new_cluster_back_and_nothing_else(ground: Ground) -> None:
    window = {"days": ["Sat"], "start": "22:00", "end": "06:00"}
    operator, key = await ready(ground, {"upgrade": {"window": window}})
    before = await ground.kube.get(service_path(key, "tiny-c1"))
    await ground.kube.merge(path_of(key), NEW_CLUSTER)
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("False", "AwaitingWindow")
    assert await ground.kube.get(service_path(key, "tiny-c1")) == before
    assert await ground.is_ready(key)
    writes = len(ground.server.writes)
    await operator.look(key)
    assert len(ground.server.writes) == writes, "and waiting writes nothing"
    ground.clock.moment += timedelta(days=3, hours=14)
    await ground.settle(operator, key)
    after = await ground.kube.get(service_path(key, "tiny-c1"))
    worker = after["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    assert worker["priorityClassName"] == "urgent"
    assert await ground.conditions_of("UpgradeInProgress", key) == ("False", "UpToDate")


async def test_another_number_of_replicas_needs_no_window_and_no_cluster(ground: Ground) -> None:
    window = {"days": ["Sat"], "start": "22:00", "end": "06:00"}
    operator, key = await ready(ground, {"upgrade": {"window": window}})
    (cluster,) = await ground.kube.items(CLUSTERS)
    await ground.kube.merge(path_of(key), {"spec": {"scaling": {"replicas": 2}}})
    await ground.settle(operator, key)
    assert (await ground.get(key))["status"]["readyReplicas"] == 2
    assert [each["metadata"]["uid"] for each in await ground.kube.items(CLUSTERS)] == [
        cluster["metadata"]["uid"]
    ]


async def test_an_incremental_upgrade_tells_its_shares_and_leaves_them_to_the_upgrade_s_gateway(
    ground: Ground,
) -> None:
    operator, key = await ready(ground, SHARES)
    (before,) = (await ground.routes())["models.tiny.json"].deployments
    ground.ray.shares["tiny-c1"] = 25
    await ground.kube.merge(path_of(key), NEW_CLUSTER)
    await ground.settle(operator, key)
    told = {c["type"]: c for c in (await ground.get(key))["status"]["conditions"]}
    assert told["UpgradeInProgress"]["reason"] == "NewCluster"
    assert "tiny-c1 sends 25 % to it" in told["UpgradeInProgress"]["message"]
    assert await ground.is_ready(key)
    assert (await ground.routes())["models.tiny.json"].deployments == [before]
    ground.ray.shares["tiny-c1"] = 100
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("False", "UpToDate")
    assert len(await ground.kube.items(CLUSTERS)) == 1


async def test_a_change_that_is_taken_back_half_way_goes_back_to_the_cluster_that_was_there(
    ground: Ground,
) -> None:
    operator, key = await ready(ground, SHARES)
    (cluster,) = await ground.kube.items(CLUSTERS)
    ground.ray.shares["tiny-c1"] = 50
    await ground.kube.merge(path_of(key), NEW_CLUSTER)
    await ground.settle(operator, key)
    await ground.kube.merge(path_of(key), {"spec": {"scheduling": None}})
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("True", "RollingBack")
    assert await ground.is_ready(key)
    ground.ray.shares["tiny-c1"] = 0
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("False", "UpToDate")
    assert [each["metadata"]["uid"] for each in await ground.kube.items(CLUSTERS)] == [
        cluster["metadata"]["uid"]
    ]
    assert await ground.is_ready(key)
