"""What is said of a deployment's requests reaches the gateways at once, and no engine hears of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headrace_contracts.deployments import Deployment
from headrace_gateway.routing.choice import in_order
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_platform.control.observation import Key
from tests.platform.control.live.ground import ROUTES, Ground, Operator, path_of, service_path
from tests.platform.control.live.test_reconcile import ONE_GPU, ready
from tests.platform.control.live.test_upgrade import CLUSTERS, NEW_CLUSTER
from tests.support.kubernetes.kuberay import Stage

SAID: dict[str, Any] = {
    "routing": {"weight": 5, "projects": ["proj_1"], "waitSeconds": 10},
    "lifecycle": {"deprecatedAt": "2027-03-01T00:00:00Z", "sunsetAt": "2027-06-01T00:00:00Z"},
}


async def line_of(ground: Ground, key: Key) -> Deployment:
    [line] = (await ground.routes())[f"{key.namespace}.{key.name}.json"].deployments
    return line


async def canary(ground: Ground, stable: int, canary: int) -> tuple[Operator, Key, Key]:
    """Two deployments of one model, with these weights."""
    operator = await ground.operator()
    keys = [
        await ground.create("small", {**ONE_GPU, "routing.weight": weight}, name=name)
        for name, weight in (("stable", stable), ("canary", canary))
    ]
    for key in keys:
        await ground.settle(operator, key)
        assert await ground.is_ready(key), await ground.conditions(key)
    return operator, keys[0], keys[1]


class Mounted:
    """The ConfigMap as it is in a gateway's pod, and the gateway's own reading of it."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self.ground, self.folder = ground, folder
        self.file = DeploymentsFile(folder)

    async def update(self) -> None:
        for name, text in (await self.ground.kube.get(ROUTES))["data"].items():
            (self.folder / name).write_text(text)
        self.file.look()

    def served(self, sessions: int, *, project: str = "proj_1", org: str = "org_1") -> Counter[str]:
        """How many sessions each deployment is the first choice of."""
        found = self.file.current.for_model("glm-tiny", org)
        return Counter(
            in_order(found, org=org, project=project, affinity=lambda: b"%d" % number, now=0)[0].id  # noqa: B023 - asked at once
            for number in range(sessions)
        )


async def test_a_change_of_them_reaches_the_table_and_no_engine(ground: Ground) -> None:
    operator, key = await ready(ground)
    [cluster] = await ground.kube.items(CLUSTERS)
    before = await ground.kube.get(service_path(key, "tiny-c1"))
    asked = len(ground.endpoints.asked)
    await ground.kube.merge(path_of(key), {"spec": SAID})
    await operator.look(key)
    line = await line_of(ground, key)
    assert (line.weight, line.projects, line.wait_seconds) == (5, ["proj_1"], 10)
    assert (line.deprecated_at, line.sunset_at) == (1_803_859_200, 1_811_808_000)
    await ground.settle(operator, key)
    assert await ground.kube.get(service_path(key, "tiny-c1")) == before
    assert await ground.kube.items(CLUSTERS) == [cluster]
    assert len(ground.endpoints.asked) == asked, "an engine need not answer anew"
    assert await ground.is_ready(key)


async def test_what_is_taken_back_leaves_the_line_as_it_was(ground: Ground) -> None:
    operator, key = await ready(ground)
    before = await ground.routes()
    await ground.kube.merge(path_of(key), {"spec": SAID})
    await operator.look(key)
    assert await ground.routes() != before
    taken_back = {"routing": dict.fromkeys(SAID["routing"]), "lifecycle": None}
    await ground.kube.merge(path_of(key), {"spec": taken_back})
    await operator.look(key)
    assert await ground.routes() == before
    writes = len(ground.server.writes)
    await operator.look(key)
    assert len(ground.server.writes) == writes


async def test_traffic_is_taken_from_an_engine_that_does_not_answer(ground: Ground) -> None:
    operator, key = await ready(ground)
    ground.endpoints.statuses["tiny-c1"] = 500
    # With another policy Serve runs another configuration, so the engine is asked again and gives no answer.
    await ground.kube.merge(path_of(key), {"spec": {"routing": {"weight": 0, "policy": "session"}}})
    await ground.settle(operator, key)
    assert not await ground.is_ready(key)
    assert (await line_of(ground, key)).weight == 0


async def test_they_hold_while_a_second_cluster_comes_up(ground: Ground) -> None:
    operator, key = await ready(ground)
    ground.ray.stages["tiny-c1"] = Stage.PENDING
    await ground.kube.merge(path_of(key), NEW_CLUSTER)
    await ground.settle(operator, key)
    assert await ground.conditions_of("UpgradeInProgress", key) == ("True", "NewCluster")
    await ground.kube.merge(path_of(key), {"spec": {"routing": {"weight": 7}}})
    await operator.look(key)
    assert (await line_of(ground, key)).weight == 7


async def test_a_cluster_without_a_line_has_no_part_of_the_weight(ground: Ground) -> None:
    ground.ray.stages["tiny-c2"] = Stage.CLUSTER_READY
    operator = await ground.operator()
    key = await ground.create("small", {**ONE_GPU, "scaling.replicas": 51, "routing.weight": 95})
    await ground.settle(operator, key)
    assert (await line_of(ground, key)).weight == 95
    del ground.ray.stages["tiny-c2"]
    await ground.settle(operator, key)
    lines = (await ground.routes())["models.tiny.json"].deployments
    assert [line.weight for line in lines] == [48, 47]


async def test_a_broken_rule_is_told_and_the_line_stays(ground: Ground) -> None:
    operator, key = await ready(ground)
    before = await ground.routes()
    await ground.kube.merge(path_of(key), {"spec": {"routing": {"weight": 0, "overflow": True}}})
    await operator.look(key)
    assert (await ground.conditions(key))["Accepted"] == ("False", "OverflowShared")
    assert await ground.routes() == before


async def test_a_gateway_splits_sessions_as_two_deployments_say(ground: Ground, tmp_path: Path) -> None:
    operator, stable, fresh = await canary(ground, 95, 5)
    mounted = Mounted(ground, tmp_path)
    await mounted.update()
    served = mounted.served(4000)
    assert served.total() == served["models/stable-c1"] + served["models/canary-c1"]
    assert 120 <= served["models/canary-c1"] <= 280
    for key, weight in ((stable, 0), (fresh, 100)):
        await ground.kube.merge(path_of(key), {"spec": {"routing": {"weight": weight}}})
        await operator.look(key)
    await mounted.update()
    assert mounted.served(100) == {"models/canary-c1": 100}
    # What can't serve is passed over; the one without weight is next.
    order = in_order(
        mounted.file.current.for_model("glm-tiny", "org_1"),
        org="org_1",
        project="p",
        affinity=lambda: None,
        now=0,
    )
    assert [line.id for line in order] == ["models/canary-c1", "models/stable-c1"]


@pytest.mark.parametrize(
    ("project", "served"), [("proj_1", "models/canary-c1"), ("proj_2", "models/stable-c1")]
)
async def test_a_project_that_is_pinned_goes_where_it_is_and_others_do_not(
    ground: Ground, tmp_path: Path, project: str, served: str
) -> None:
    operator, _, fresh = await canary(ground, 95, 5)
    await ground.kube.merge(path_of(fresh), {"spec": {"routing": {"projects": ["proj_1"]}}})
    await operator.look(fresh)
    mounted = Mounted(ground, tmp_path)
    await mounted.update()
    assert set(mounted.served(50, project=project)) == {served}


async def test_an_organisation_s_own_goes_on_to_those_of_all_where_it_says_so(
    ground: Ground, tmp_path: Path
) -> None:
    operator, _ = await ready(ground)
    key = await ground.create(
        "small",
        {**ONE_GPU, "tenantRef": {"org": "acme"}, "routing.overflow": True},
        name="own",
        namespace="acme",
    )
    await ground.settle(operator, key)
    mounted = Mounted(ground, tmp_path)
    await mounted.update()
    found = [line.id for line in mounted.file.current.for_model("glm-tiny", "acme")]
    assert found == ["acme/own-c1", "models/tiny-c1"]
    await ground.kube.merge(path_of(key), {"spec": {"routing": {"overflow": False}}})
    await operator.look(key)
    await mounted.update()
    assert [line.id for line in mounted.file.current.for_model("glm-tiny", "acme")] == ["acme/own-c1"]
