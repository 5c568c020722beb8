"""Metrics are for Prometheus alone: no Service leads to them, and no policy lets anybody else in."""

from typing import Any

from tests.chart.helm import Helm, Release
from tests.chart.releases import EXTERNAL, RELEASES

PORT = 9091
COMPONENTS = ("gateway", "billing", "billing-worker")
PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    "podSelector": {"matchLabels": {"app": "prometheus"}},
}


def metrics_ports(release: Release) -> dict[str, list[int]]:
    return {
        owner["metadata"]["name"].removeprefix("headrace-"): [
            port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
            if port["name"] == "metrics"
        ]
        for owner, template in release.workloads()
    }


def rules_for_metrics(release: Release, component: str) -> list[dict[str, Any]]:
    policy = release.named("NetworkPolicy", f"headrace-{component}")
    return [
        rule
        for rule in policy["spec"].get("ingress", [])
        if PORT in {port["port"] for port in rule.get("ports", [])}
    ]


def test_each_monitor_finds_pods_that_have_its_port(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    ports = metrics_ports(release)
    for component in COMPONENTS:
        monitor = release.named("PodMonitor", f"headrace-{component}")
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
        labels = monitor["spec"]["selector"]["matchLabels"]
        (template,) = [
            template
            for _, template in release.workloads()
            if labels.items() <= template["metadata"]["labels"].items()
        ]
        assert template["metadata"]["labels"]["app.kubernetes.io/component"] == component
        assert ports[component] == [PORT]


def test_no_service_leads_to_metrics(helm: Helm) -> None:
    for service in helm.render(RELEASES["everything"]).of_kind("Service"):
        assert {port.get("targetPort") for port in service["spec"]["ports"]}.isdisjoint({PORT, "metrics"})


def test_policies_let_prometheus_in_and_nobody_else(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    for component in COMPONENTS:
        (rule,) = rules_for_metrics(release, component)
        assert rule["from"] == [PROMETHEUS]
        assert rule["ports"] == [{"port": PORT, "protocol": "TCP"}]


def test_where_no_prometheus_is_named_nobody_gets_in(helm: Helm) -> None:
    release = helm.render(EXTERNAL)
    assert release.of_kind("PodMonitor") == []
    for component in COMPONENTS:
        assert rules_for_metrics(release, component) == []


def test_an_api_of_several_processes_has_no_port_for_metrics(helm: Helm) -> None:
    ports = metrics_ports(helm.render({**EXTERNAL, "billing": {"workers": 2}}))
    assert ports["billing"] == []
    assert ports["billing-worker"] == [PORT]


def test_gateways_send_traces_only_where_a_collector_is_named(helm: Helm) -> None:
    def told(values: dict[str, Any]) -> dict[str, str]:
        (container,) = helm.render(values).named("Deployment", "headrace-gateway")["spec"]["template"][
            "spec"
        ]["containers"]
        return {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("OTEL_")}

    assert told(EXTERNAL) == {}
    assert told(RELEASES["everything"]) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.monitoring:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=models",
    }
