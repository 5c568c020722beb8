"""What Terraform knows of an environment is what the chart asks: its output, as it is, among the values."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.chart.helm import Helm, Values
from tests.chart.operator import operator_environment
from tests.chart.releases import BUILT, file, merged
from tests.terraform.workbench import SOURCE, Workbench, provider_mirror, terraform_binary

ENVIRONMENT = "production"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the environment, built by a provider that is mocked."""
    mirror = provider_mirror()
    if terraform_binary() is None or mirror is None:
        pytest.skip("terraform, or the aws provider for it, is not here")
    workbench = Workbench.laid_out(tmp_path_factory.mktemp("terraform"), mirror)
    finished = workbench.test(f"environments/{ENVIRONMENT}", f"{ENVIRONMENT}.tftest.hcl", "-json", "-verbose")
    assert finished.returncode == 0, finished.stdout
    messages = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]
    return {
        name: output["value"]
        for message in messages
        for name, output in message.get("test_state", {}).get("outputs", {}).items()
    }


@pytest.fixture
def values(outputs: dict[str, Any]) -> Values:
    told: Values = yaml.safe_load(outputs["helm_values"])
    return merged(BUILT, file("eks"), told, {"ingress": {"host": "models.example.com"}})


def test_the_chart_takes_the_output_as_it_is(helm: Helm, values: Values) -> None:
    release = helm.render(values)
    secrets = {found["metadata"]["name"]: found["spec"] for found in release.of_kind("ExternalSecret")}
    assert secrets.keys() == {"headrace-auth", "headrace-database", "headrace-valkey", "headrace-gcs"}
    url = secrets["headrace-database"]["target"]["template"]["data"]["url"]
    host = values["externalSecrets"]["database"]["host"]
    assert url == f"postgresql://{{{{ .username | urlquery }}}}:{{{{ .password | urlquery }}}}@{host}:5432/headrace?sslmode=require"  # fmt: skip
    assert secrets["headrace-valkey"]["target"]["template"]["data"]["url"].startswith("rediss://:{{ .token")


def test_the_operator_learns_of_the_pools_with_gpus(helm: Helm, values: Values) -> None:
    told = operator_environment(helm.render(values))
    assert told.shared_quota == {"large": 8}
    profiles = told.gpu_profiles
    assert profiles["large"].engine == "h200"
    assert profiles["large"].accelerators_per_node == 8
    assert profiles["large"].node_selector == {"headrace.dev/pool": "large"}


def test_the_role_that_reads_weights_is_for_the_account_that_the_chart_makes(
    helm: Helm, values: Values
) -> None:
    text = (SOURCE / "environments" / ENVIRONMENT / "main.tf").read_text()
    (account,) = re.findall(r'engine = \{\s+namespace +=.*\s+service_account += "([^"]+)"', text)
    assert helm.render(values).named("ServiceAccount", account)
