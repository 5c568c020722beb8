"""What every pod of the chart is held to, whatever the values: Pod Security's restricted level and our own rules."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.helm import Helm, Manifest, Release
from tests.chart.releases import DEV, EXTERNAL, RELEASES, merged

# Pods that talk to the Kubernetes API.
WITH_TOKEN = {"operator"}
# What is one process by its nature, or is told by its answers alone that it works.
WITHOUT_PROBES = {"worker", "migrate", "schema", "completion"}


def component_of(template: Manifest) -> str:
    return str(template["metadata"]["labels"]["app.kubernetes.io/component"])


def containers(release: Release) -> Iterator[Manifest]:
    for _, template in release.workloads():
        yield from template["spec"].get("initContainers", [])
        yield from template["spec"]["containers"]


def test_every_pod_meets_the_restricted_standard(release: Release) -> None:
    for owner, template in release.workloads():
        pod = template["spec"]
        name = owner["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert {next(iter(volume.keys() - {"name"})) for volume in pod.get("volumes", [])} <= {
            "emptyDir",
            "configMap",
        }, name
    for container in containers(release):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        }, container["name"]


def test_every_container_asks_for_what_it_needs_and_has_a_bound_of_memory(release: Release) -> None:
    for container in containers(release):
        resources = container["resources"]
        assert resources["requests"].keys() >= {"cpu", "memory"}, container["name"]
        assert "memory" in resources["limits"], container["name"]


def test_every_server_has_probes(release: Release) -> None:
    without = {
        container["name"] for container in containers(release) if not {"readinessProbe", "startupProbe"} <= container.keys()
    }  # fmt: skip
    assert without <= WITHOUT_PROBES


def test_only_the_operator_has_a_token_of_the_cluster(release: Release) -> None:
    with_token = {
        component_of(template)
        for _, template in release.workloads()
        if template["spec"]["automountServiceAccountToken"]
    }
    assert with_token <= WITH_TOKEN
    assert all(
        account["automountServiceAccountToken"] is False for account in release.of_kind("ServiceAccount")
    )


def test_every_account_that_a_pod_names_is_made(release: Release) -> None:
    made = {account["metadata"]["name"] for account in release.of_kind("ServiceAccount")}
    named = {template["spec"].get("serviceAccountName") for _, template in release.workloads()} - {None}
    assert named <= made


def test_images_have_a_tag_or_a_digest_and_never_the_newest(release: Release) -> None:
    for container in containers(release):
        assert re.search(r"(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$", container["image"]), container["image"]
        assert not container["image"].endswith(":latest")


def test_a_digest_beats_the_tag_and_the_global_registry_every_other(helm: Helm) -> None:
    digest = "sha256:" + "ab" * 32
    values = merged(
        DEV,
        {
            "global": {"imageRegistry": "registry.example.com/models"},
            "images": {"gateway": {"registry": "elsewhere.example.com", "digest": digest}, "postgres": {"tag": "18.2"}},
            "tests": {"existingSecret": "key"},
        },
    )  # fmt: skip
    images = {container["name"]: container["image"] for container in containers(helm.render(values))}
    assert images["gateway"] == f"registry.example.com/models/headrace/gateway@{digest}"
    assert images["postgres"] == "registry.example.com/models/library/postgres:18.2"
    assert all(image.startswith("registry.example.com/models/") for image in images.values())


def test_pull_secrets_are_on_every_pod_of_jobs_tests_and_ray_too(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    kinds = {owner["kind"] for owner, _ in release.workloads()}
    assert kinds == {"Deployment", "Job", "Pod"}
    for owner, template in release.workloads():
        assert template["spec"]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}], owner["metadata"]
    told = json.loads(release.named("ConfigMap", "headrace-operator")["data"]["environment.json"])
    assert told["pullSecrets"] == ["one", "two"]


SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|API_KEY|SIGNING_KEY|_AUTH$|_URL$")
# Addresses without a password in them.
OPEN = {
    "HEADRACE_BILLING_GATEWAY_URL",
    "HEADRACE_BILLING_PAYMENTS_RETURN_URL",
    "HEADRACE_GATEWAY_BILLING_URL",
    "HEADRACE_OPERATOR_BILLING_URL",
    "GATEWAY_URL",
}


def test_no_secret_stands_in_an_environment_in_plain_text(release: Release) -> None:
    for container in containers(release):
        for variable in container.get("env", []):
            if SECRET.search(variable["name"]) and variable["name"] not in OPEN:
                by_reference = "secretKeyRef" in variable.get("valueFrom", {})
                assert by_reference or re.search(r":\$\(\w+_PASSWORD\)@", variable["value"]), variable
    assert release.of_kind("Secret") == []


def test_every_pod_is_under_a_policy_that_says_what_comes_in_and_goes_out(helm: Helm) -> None:
    for name, values in RELEASES.items():
        if name == "least":
            continue
        release = helm.render(values)
        policies = release.of_kind("NetworkPolicy")
        for owner, template in release.workloads():
            over = [policy for policy in policies if selects(policy["spec"]["podSelector"], template)]
            assert over, (name, owner["metadata"]["name"])
            assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in over)


def test_whoever_opens_a_connection_may_resolve_names(helm: Helm) -> None:
    for policy in helm.render(RELEASES["everything"]).of_kind("NetworkPolicy"):
        ports = [port for rule in policy["spec"]["egress"] for port in rule.get("ports", [])]
        assert {"port": 53, "protocol": "UDP"} in ports


PATHS = [
    ("gateway", "billing", 8081),
    ("gateway", "valkey", 6379),
    ("billing", "postgres", 5432),
    ("billing", "valkey", 6379),
    ("billing-worker", "postgres", 5432),
    ("billing-worker", "valkey", 6379),
    ("migration", "postgres", 5432),
    ("test", "gateway", 8080),
    ("operator", "billing", 8081),
]
CLOSED = [
    ("gateway", "postgres", 5432),
    ("gateway", "gcs", 6379),
    ("test", "billing", 8081),
    ("test", "valkey", 6379),
    ("operator", "postgres", 5432),
    ("migration", "valkey", 6379),
    ("billing-worker", "gcs", 6379),
]


@pytest.mark.parametrize(("source", "target", "port"), PATHS)
def test_pods_that_need_each_other_may_talk(helm: Helm, source: str, target: str, port: int) -> None:
    assert may_connect(inside(helm), source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), CLOSED)
def test_pods_that_do_not_need_each_other_may_not(helm: Helm, source: str, target: str, port: int) -> None:
    assert not may_connect(inside(helm), source, target, port)


def inside(helm: Helm) -> Release:
    return helm.render(merged(DEV, {"tests": {"existingSecret": "key"}}))


def may_connect(release: Release, source: str, target: str, port: int) -> bool:
    """As a network plugin decides it: some rule lets it out, and some rule lets it in."""
    pods = {component_of(template): template for _, template in release.workloads()}
    policies = {policy["metadata"]["labels"]["app.kubernetes.io/component"]: policy["spec"] for policy in release.of_kind("NetworkPolicy")}  # fmt: skip
    out = allowed(policies[source].get("egress", []), "to", pods[target], port)
    return out and allowed(policies[target].get("ingress", []), "from", pods[source], port)


def allowed(rules: list[dict[str, Any]], peers: str, other: Manifest, port: int) -> bool:
    return any(
        any(opened["port"] == port for opened in rule["ports"])
        and (peers not in rule or any(selects(peer.get("podSelector"), other) for peer in rule[peers]))
        for rule in rules
    )


def selects(selector: dict[str, Any] | None, template: Manifest) -> bool:
    labels = template["metadata"]["labels"]
    return (
        selector is not None
        and all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        and all(expression["key"] in labels for expression in selector.get("matchExpressions", []))
    )


def test_services_budgets_and_autoscalers_find_their_pods(release: Release) -> None:
    templates = [template for _, template in release.workloads()]
    for service in release.of_kind("Service"):
        found = [pod for pod in templates if selects({"matchLabels": service["spec"]["selector"]}, pod)]
        assert len(found) == 1, service["metadata"]["name"]
        ports = {
            port["name"]
            for container in found[0]["spec"]["containers"]
            for port in container.get("ports", [])
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in release.of_kind("PodDisruptionBudget"):
        assert sum(selects(budget["spec"]["selector"], pod) for pod in templates) == 1, budget["metadata"][
            "name"
        ]
    for scaler in release.of_kind("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in release.named(target["kind"], target["name"])["spec"]


def test_the_gateway_and_billing_spread_scale_and_survive_a_node_s_repair(helm: Helm) -> None:
    release = helm.render(EXTERNAL)
    assert {
        found["spec"]["scaleTargetRef"]["name"] for found in release.of_kind("HorizontalPodAutoscaler")
    } == {
        "headrace-gateway",
        "headrace-billing",
    }
    assert {found["metadata"]["name"] for found in release.of_kind("PodDisruptionBudget")} == {
        "headrace-gateway",
        "headrace-billing",
        "headrace-billing-worker",
    }
    for name in ("headrace-gateway", "headrace-billing", "headrace-billing-worker"):
        spread = release.named("Deployment", name)["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [constraint["topologyKey"] for constraint in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
