"""An upgrade that a cluster takes: nothing that can't be changed is changed, from one version or set of values to the next."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, Helm, Values
from tests.chart.immutable import INSTALLED, immutable_fields
from tests.chart.releases import DEV, EXTERNAL, merged

RELEASED = sorted((Path(__file__).parent / "released").glob("*.json"))


@pytest.mark.parametrize("record", RELEASED, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", INSTALLED)
def test_every_version_that_was_ever_released_can_be_upgraded(helm: Helm, record: Path, name: str) -> None:
    before: dict[str, Any] = json.loads(record.read_text())[name]
    now = immutable_fields(helm.render(INSTALLED[name], upgrade=True))
    assert {key: fields for key, fields in now.items() if key in before and before[key] != fields} == {}
    assert before.keys() & now.keys(), "nothing is compared: were all objects renamed?"


def test_the_version_of_the_chart_has_its_record() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert version in {path.stem for path in RELEASED}, "write it: python -m tests.chart.immutable"


# What a running release is changed to, day by day.
CHANGES: list[Values] = [
    {"images": {"billing": {"tag": "9.9.9"}, "gateway": {"tag": "9.9.9"}}},
    {"gateway": {"workers": 4, "podLabels": {"a": "b"}, "scheduling": {"nodeSelector": {"c": "d"}}}},
    {"global": {"imagePullSecrets": ["other"]}},
    {"migrations": {"deadlineSeconds": 60}},
    {"evaluation": {"valkeyResources": {"limits": {"memory": "1Gi"}}}},
    {"gateway": {"autoscaling": {"enabled": True}}, "billing": {"autoscaling": {"enabled": True}}},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("installed", [EXTERNAL, DEV], ids=["external", "dev"])
def test_a_running_release_takes_other_values(helm: Helm, installed: Values, change: Values) -> None:
    before = immutable_fields(helm.render(installed))
    after = immutable_fields(helm.render(merged(installed, change), upgrade=True))
    assert {key: after[key] for key in before.keys() & after.keys() if before[key] != after[key]} == {}


def test_a_job_whose_pods_change_gets_another_name(helm: Helm) -> None:
    def jobs(values: Values) -> set[str]:
        return {key for key in immutable_fields(helm.render(values)) if key.startswith("Job/")}

    assert jobs(DEV)
    assert jobs(DEV).isdisjoint(jobs(merged(DEV, {"images": {"billing": {"tag": "9.9.9"}}})))


def test_two_releases_in_one_namespace_do_not_share_pods(helm: Helm) -> None:
    one, other = helm.render(DEV, name="one"), helm.render(DEV, name="other")
    names = [
        {(found["kind"], found["metadata"]["name"]) for found in release.objects} for release in (one, other)
    ]
    # Known by their names to object stores and by its own to customers, so two releases share a namespace only
    # where one of them leaves these to the other.
    assert names[0] & names[1] == {("ServiceAccount", "headrace-engine"), ("ModelDeployment", "glm-tiny")}
    selectors = [
        {json.dumps(found["spec"]["selector"]) for found in release.of_kind("Deployment")}
        for release in (one, other)
    ]
    assert selectors[0].isdisjoint(selectors[1])
