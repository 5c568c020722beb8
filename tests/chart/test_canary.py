"""The canary's guide does what it says, step by step, with the operator of a release of the partner's values."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from headrace_platform.control.observation import Key
from tests.chart.guide import CANARY, PARTNER, block
from tests.chart.helm import Helm, Values
from tests.chart.operator import operator_environment
from tests.chart.releases import merged
from tests.platform.control.live.ground import Ground, Operator, ground, path_of

STABLE, CANDIDATE = "glm-4-5-air", "glm-4-5-air-next"

PATCH = re.compile(r"^\$ kubectl --namespace (\S+) patch modeldeployment (\S+) --type merge --patch '(.+)'$")


def steps() -> Iterator[list[tuple[Key, dict[str, Any]]]]:
    """What each step of the guide changes."""
    for text in re.findall(r"<!-- step -->\n```console\n(.*?)```", CANARY.read_text(), re.DOTALL):
        patches = [PATCH.match(line) for line in text.splitlines()]
        assert all(patches), text
        yield [(Key(each[1], each[2]), json.loads(each[3])) for each in patches if each]


def values() -> Values:
    before: Values = yaml.safe_load(block(PARTNER, "values"))
    return merged(before, yaml.safe_load(block(CANARY, "values")))


class Rollout:
    def __init__(self, cluster: Ground, operator: Operator) -> None:
        self.cluster, self.operator = cluster, operator

    async def add(self, document: dict[str, Any]) -> None:
        key = await self.cluster.create_whole(document)
        await self.cluster.settle(self.operator, key)
        assert await self.cluster.is_ready(key), await self.cluster.conditions(key)

    async def do(self, step: list[tuple[Key, dict[str, Any]]]) -> None:
        for key, patch in step:
            await self.cluster.kube.merge(path_of(key), patch)
            await self.cluster.settle(self.operator, key)
            assert (await self.cluster.conditions(key))["Accepted"] == ("True", "Accepted")
            # Who serves is never nobody.
            assert any((await self.weights()).values())

    async def weights(self) -> dict[str, int]:
        return {
            line.id: line.weight
            for table in (await self.cluster.routes()).values()
            for line in table.deployments
        }


async def test_its_steps_lead_from_the_one_to_the_other(helm: Helm) -> None:
    release = helm.render(values())
    [served] = release.of_kind("ModelDeployment")
    before = {
        **served,
        "metadata": {"name": served["metadata"]["name"], "namespace": "headrace"},
        "spec": {name: value for name, value in served["spec"].items() if name != "routing"},
    }
    old, new = f"headrace/{STABLE}-c1", f"headrace/{CANDIDATE}-c1"
    async with ground() as cluster:
        cluster.environment = operator_environment(release)
        rollout = Rollout(cluster, await cluster.operator())
        await rollout.add(before)
        first, opened, over, ended = steps()
        assert await rollout.weights() == {old: 1}
        await rollout.do(first)
        assert await rollout.weights() == {old: 95}
        assert (await cluster.get(Key("headrace", STABLE)))["spec"]["routing"]["weight"] == 95
        await rollout.add(yaml.safe_load(block(CANARY, "canary")))
        [line] = (await cluster.routes())[f"headrace.{CANDIDATE}.json"].deployments
        assert (line.projects, line.revision, line.model) == (["proj_ours"], "2", "glm-4.5-air")
        await rollout.do(opened)
        [line] = (await cluster.routes())[f"headrace.{CANDIDATE}.json"].deployments
        assert line.projects == []
        assert await rollout.weights() == {old: 95, new: 5}
        await rollout.do(over)
        assert await rollout.weights() == {old: 0, new: 100}
        await rollout.do(ended)
        [line] = (await cluster.routes())[f"headrace.{STABLE}.json"].deployments
        assert line.deprecated_at is not None
        assert line.sunset_at is not None


def test_its_values_say_what_its_first_step_does(helm: Helm) -> None:
    [served] = helm.render(values()).of_kind("ModelDeployment")
    [(key, patch)] = next(iter(steps()))
    assert (key.name, patch["spec"]["routing"]) == (served["metadata"]["name"], served["spec"]["routing"])


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", CANARY.read_text()):
        assert (CANARY.parent / link).exists(), link
