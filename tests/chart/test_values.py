"""What may be said in values, and what Helm's user reads when it can't be."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, Helm, Refused, Values
from tests.chart.releases import DEV, EXTERNAL, RELEASES, merged


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_generate", CHART.parent / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "values.schema.json"])
def test_what_is_generated_is_up_to_date(name: str) -> None:
    made: dict[str, Any] = {"README.md": generator().readme, "values.schema.json": generator().schema}
    assert (CHART / name).read_text() == made[name](), "run `make chart-generate`"


def test_every_value_has_a_comment_that_says_what_it_is_for() -> None:
    described = {path for path, _, _ in generator().described()}
    assert [path for path in keys_in_blocks(CHART / "values.yaml") if path not in described] == []


def keys_in_blocks(path: Path) -> list[str]:
    """Paths of all keys that stand on a line of their own."""
    found: list[str] = []

    def walk(node: yaml.Node | None, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            for key, value in node.value:
                inside = f"{prefix}{key.value}"
                # What a map by free names and a block of plain Kubernetes hold needs no words of ours.
                if not inside.endswith(
                    ("esources.requests", "esources.limits", ".glm-tiny.model", ".glm-tiny.accelerator")
                ):
                    found.append(inside)
                walk(value, f"{inside}.")

    walk(yaml.compose(path.read_text()), "")
    return found


def test_the_schema_is_closed_wherever_it_names_what_may_be_there() -> None:
    def open_objects(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in open_objects(item, path)]
        if not isinstance(node, dict):
            return []
        own = [path] if "properties" in node and node.get("additionalProperties") is not False else []
        return own + [found for key, value in node.items() for found in open_objects(value, f"{path}/{key}")]

    assert open_objects(json.loads((CHART / "values.schema.json").read_text()), "") == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"gateway": {"replica": 3}}, "replica"),
        ({"gatway": {}}, "gatway"),
        ({"images": {"gateway": {"tag": "latest"}}}, "tag"),
        ({"images": {"gateway": {"digest": "sha256:1"}}}, "digest"),
        ({"gateway": {"resources": {"limits": {"cpu": "lots"}}}}, "cpu"),
        ({"modelDeployments": {"glm-tiny": {"scaling": {"mode": "always"}}}}, "mode"),
        ({"modelDeployments": {"glm-tiny": {"model": {"source": {"s3": {"bucket": "b"}}}}}}, "bucket"),
        ({"modelDeployments": {"glm-tiny": {"routing": {"canary": 5}}}}, "canary"),
        ({"modelDeployments": {"glm-tiny": {"routing": {"weight": -1}}}}, "weight"),
        ({"modelDeployments": {"glm-tiny": {"lifecycle": {"sunsetAt": "2027-03-01"}}}}, "sunsetAt"),
        ({"modelDeployments": {"Upper": {}}}, "Upper"),
        ({"gcs": {"address": "rediss://:password@host:6379"}}, "address"),
    ],
)
def test_a_value_that_the_schema_does_not_know_is_refused_by_its_name(
    helm: Helm, values: Values, problem: str
) -> None:
    with pytest.raises(Refused, match=problem):
        helm.render(merged(EXTERNAL, values))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (merged(EXTERNAL, {"auth": {"existingSecret": ""}}), "auth.existingSecret is needed"),
        (merged(EXTERNAL, {"database": {"existingSecret": ""}}), "database.existingSecret is needed"),
        (merged(EXTERNAL, {"valkey": {"existingSecret": ""}}), "valkey.existingSecret is needed"),
        (merged(EXTERNAL, {"gcs": {"address": ""}}), "gcs.address and gcs.cidrs are needed"),
        (merged(EXTERNAL, {"images": {"engine": {"digest": ""}}}), "images.engine.digest is needed"),
        (merged(DEV, {"evaluation": {"existingSecret": ""}}), "evaluation.existingSecret is needed"),
        (merged(DEV, {"database": {"existingSecret": "x"}}), "exclude each other"),
        (merged(EXTERNAL, {"httpRoute": {"enabled": True}}), "httpRoute.parentRefs is needed"),
        (merged(EXTERNAL, {"ingress": {"enabled": True}}), "ingress.host is needed"),
        (merged(EXTERNAL, {"billing": {"autoscaling": {"minReplicas": 9}}}), "minReplicas is above maxReplicas"),
        (
            merged(EXTERNAL, {"gateway": {"responsesOrgBytesMax": 134217729}}),
            "responsesOrgBytesMax is above gateway.responsesBytesMax",
        ),
        (merged(EXTERNAL, {"externalSecrets": {"enabled": True}}), "externalSecrets.storeRef.name is needed"),
        (merged(EXTERNAL, {"gpuProfiles": {"cpu": None, "h200": {"engine": "h200", "acceleratorsPerNode": 8}}}), "there is no gpuProfiles.cpu"),
    ],
)  # fmt: skip
def test_values_that_need_each_other_are_refused_with_what_to_do(
    helm: Helm, values: Values, problem: str
) -> None:
    with pytest.raises(Refused, match=problem):
        helm.render(values)


def test_a_cluster_without_kuberay_is_refused_with_what_to_install(helm: Helm) -> None:
    with pytest.raises(Refused, match="KubeRay is not in this cluster: install its operator"):
        helm.render(EXTERNAL, kinds=())
    assert helm.render(merged(EXTERNAL, {"cluster": {"checkKubeRay": False}}), kinds=()).objects


def test_helm_s_linter_has_nothing_to_say(helm: Helm) -> None:
    assert {name: helm.lint(merged(values, {"cluster": {"checkKubeRay": False}})) for name, values in RELEASES.items()} == {
        name: [] for name in RELEASES
    }  # fmt: skip


def test_the_notes_name_the_next_step(helm: Helm) -> None:
    notes = helm.render(EXTERNAL).notes
    assert "get modeldeployments" in notes
    assert "port-forward service/headrace-billing" in notes
    assert "tests.existingSecret" in notes
    assert "https://models.example.com/v1" in helm.render(RELEASES["partner"]).notes
    assert "nothing backs them up" in helm.render(DEV).notes
