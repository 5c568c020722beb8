"""Clusters of three versions take what the chart renders, and operators what is of their kinds."""

from pathlib import Path

import pytest

from headrace_platform.control.deployment import decode
from headrace_platform.control.render import render
from headrace_platform.control.rules import violations
from tests.chart.helm import CHART, NAMESPACE, ROOT, Helm, Manifest, Refused, Release, Values
from tests.chart.operator import operator_environment
from tests.chart.releases import EXTERNAL, RELEASES, merged
from tests.chart.schemas import Definition, problems_of_built_in

VERSIONS = ("1.31", "1.33", "1.36")
DEFINITIONS = ROOT.parent / "shared" / "crds"
OWN = CHART / "crds" / "headrace.dev_modeldeployments.yaml"

# Groups whose kinds a cluster has by itself.
BUILT_IN = {"", "apps", "batch", "autoscaling", "policy", "networking.k8s.io", "rbac.authorization.k8s.io"}


def group_of(manifest: Manifest) -> str:
    return str(manifest["apiVersion"]).rpartition("/")[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_takes_every_object_of_its_own_kinds(release: Release, version: str) -> None:
    own = [found for found in release.objects if group_of(found) in BUILT_IN]
    assert {
        f"{found['kind']}/{found['metadata']['name']}": problems
        for found in own
        if (problems := problems_of_built_in(found, version))
    } == {}
    assert own


@pytest.mark.parametrize("version", VERSIONS)
def test_a_field_that_a_cluster_does_not_know_would_be_found(helm: Helm, version: str) -> None:
    deployment = helm.render(RELEASES["external"]).named("Deployment", "headrace-gateway")
    wrong = deployment | {"spec": deployment["spec"] | {"replica": 2}}
    assert problems_of_built_in(wrong, version)


@pytest.fixture(scope="module")
def definitions() -> dict[str, Definition]:
    if not DEFINITIONS.is_dir():
        pytest.skip("the definitions of other projects' kinds are not here")
    found = [Definition(path) for path in _used(DEFINITIONS)]
    return {definition.kind: definition for definition in found}


def _used(folder: Path) -> list[Path]:
    """Those whose kinds the chart can make; KubeRay's are a megabyte each and the operator's to make."""
    names = ("httproutes", "podmonitors", "prometheusrules", "externalsecrets")
    return [path for path in sorted(folder.glob("*.yaml")) if path.stem.endswith(names)]


def test_other_operators_take_what_is_of_their_kinds(helm: Helm, definitions: dict[str, Definition]) -> None:
    foreign = [
        found
        for values in RELEASES.values()
        for found in helm.render(values).objects
        if group_of(found) not in BUILT_IN | {"headrace.dev"}
    ]
    assert {found["kind"] for found in foreign} == definitions.keys()
    assert {
        found["metadata"]["name"]: problems
        for found in foreign
        if (problems := definitions[found["kind"]].problems(found))
    } == {}


def test_the_models_of_a_release_are_what_their_definition_takes(release: Release) -> None:
    definition = Definition(OWN)
    for found in release.of_kind("ModelDeployment"):
        assert definition.problems(found) == []


@pytest.mark.parametrize("values", sorted(RELEASES.keys() - {"least"}))
def test_the_operator_can_serve_the_models_of_a_release_as_they_are(helm: Helm, values: str) -> None:
    release = helm.render(RELEASES[values])
    environment = operator_environment(release)
    found = release.of_kind("ModelDeployment")
    assert found
    for manifest in found:
        placed = manifest | {"metadata": manifest["metadata"] | {"namespace": NAMESPACE}}
        deployment = decode(placed)
        assert violations(deployment, environment) == []
        assert render(deployment, environment)


SHA256 = "0123456789abcdef" * 4
SOURCES: dict[str, Values] = {
    "s3": {"sha256": SHA256, "s3": {"uri": "s3://weights/tiny", "sizeGib": 1}},
    "hf": {"sha256": SHA256, "hf": {"repository": "headrace/tiny", "commit": "ab" * 20, "sizeGib": 1}},
    "pvc": {"sha256": SHA256, "pvc": {"claimName": "weights", "path": "tiny"}},
    "oci": {"oci": {"repository": "registry.example.com/tiny", "digest": f"sha256:{SHA256}"}},
    "hostPath": {"sha256": SHA256, "hostPath": {"path": "/srv/weights/tiny"}},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_weights_may_come_from_wherever_a_deployment_says(helm: Helm, kind: str) -> None:
    deployment = {"glm-tiny": {"model": {"source": SOURCES[kind]}}}
    values = merged(EXTERNAL, {"engine": {"hostPaths": ["/srv/weights"]}, "modelDeployments": deployment})
    release = helm.render(values)
    (model,) = release.of_kind("ModelDeployment")
    assert model["spec"]["model"]["source"] == SOURCES[kind]
    assert Definition(OWN).problems(model) == []


def test_what_the_gateways_are_told_of_a_deployment_may_stand_in_values(helm: Helm) -> None:
    said = {
        "routing": {"weight": 5, "projects": ["proj_1"], "waitSeconds": 10},
        "lifecycle": {"deprecatedAt": "2027-03-01T00:00:00Z", "sunsetAt": "2027-06-01T00:00:00Z"},
    }
    [model] = helm.render(merged(EXTERNAL, {"modelDeployments": {"glm-tiny": said}})).of_kind(
        "ModelDeployment"
    )
    assert {name: model["spec"][name] for name in said} == said
    assert Definition(OWN).problems(model) == []


def test_weights_without_their_checksum_are_refused(helm: Helm) -> None:
    unproven = {"glm-tiny": {"model": {"source": {"sha256": "none", "hf": SOURCES["hf"]["hf"]}}}}
    with pytest.raises(Refused, match="sha256"):
        helm.render(merged(EXTERNAL, {"modelDeployments": unproven}))
