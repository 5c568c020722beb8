"""What is taken for a ModelDeployment, and what is not."""

from typing import Any

import pytest
import yaml

from headrace_platform.control.deployment import DeploymentUnreadable, decode
from headrace_platform.control.scaling import ScalingMode
from tests.platform.control.examples import NAMES, body, deployment


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_read(name: str) -> None:
    assert deployment(name).metadata.name == body(name)["metadata"]["name"]


def test_what_kubernetes_adds_to_metadata_is_left_alone() -> None:
    whole = body("small")
    whole["metadata"] |= {"resourceVersion": "7", "managedFields": [], "generation": 3}
    assert decode(whole).metadata.generation == 3


def test_a_time_may_be_written_with_or_without_quotes() -> None:
    plain, quoted = (
        decode(body("small", {"lifecycle": yaml.safe_load(f"sunsetAt: {text}")}))
        for text in ("2027-03-01T00:00:00Z", '"2027-03-01T02:00:00+02:00"')
    )
    assert plain.spec.lifecycle == quoted.spec.lifecycle


def test_a_short_deployment_has_every_default() -> None:
    spec = deployment("small").spec
    assert spec.scaling.mode is ScalingMode.FIXED
    assert spec.scaling.replicas_most == 1
    assert not spec.suspend
    assert spec.tenant_ref is None


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("accelerator.count", "eight", r"\$\.spec\.accelerator\.count"),
        ("accelerator.count", -1, r"\$\.spec\.accelerator\.count"),
        ("scaling.replica", 3, "replica"),
        ("model.source", {"s3": {"uri": "http://x", "sizeGib": 1}}, r"\$\.spec\.model\.source\.s3\.uri"),
        ("engine.image", {"repository": "x/y", "tag": "latest"}, "tag"),
        ("upgrade.strategy", "Recreate", r"\$\.spec\.upgrade\.strategy"),
        ("model.id", "a\nb", r"\$\.spec\.model\.id"),
        ("routing.weight", -1, r"\$\.spec\.routing\.weight"),
        ("routing.projects", [], r"\$\.spec\.routing\.projects"),
        ("lifecycle.sunsetAt", "2027-03-01", r"\$\.spec\.lifecycle\.sunsetAt"),
    ],
)
def test_a_field_that_is_wrong_is_told_by_its_path(path: str, value: Any, told: str) -> None:
    with pytest.raises(DeploymentUnreadable, match=told):
        deployment("small", {path: value})
