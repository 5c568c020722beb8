"""Alerts and dashboards: expressions that parse, on metrics that somebody exports, and that speak when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from headrace_billing.metrics.catalogue import CATALOGUE as BILLING
from headrace_gateway.metrics.catalogue import CATALOGUE as GATEWAY
from headrace_telemetry.metrics import Kind
from tests.chart.helm import CHART, Helm, Release
from tests.chart.releases import RELEASES, merged

# What kube-state-metrics, the kubelet and cAdvisor export of what we ask for, by their documentation.
CLUSTER = {
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_transmit_bytes_total",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_available",
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_job_status_failed",
    "kube_pod_container_resource_limits",
    "kube_pod_container_status_last_terminated_reason",
    "kube_pod_container_status_restarts_total",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
}
OURS = {
    f"{metric.name}{ending}"
    for metric in (GATEWAY | BILLING).values()
    for ending in (("_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",))
}
EXPORTED = CLUSTER | OURS
TESTS = Path(__file__).parent / "alerts.test.yaml"


@pytest.fixture
def rules(helm: Helm) -> list[dict[str, Any]]:
    monitoring = {"prometheusRule": {"enabled": True}, "podMonitors": {"enabled": True}}
    values = merged(RELEASES["dev"], {"monitoring": monitoring})
    groups = helm.render(values).named("PrometheusRule", "headrace")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))]


def expressions_of_dashboards() -> list[str]:
    return [
        target["expr"].replace("$namespace", "models")
        for dashboard in dashboards()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def metrics(expression: str) -> set[str]:
    promql_parser.parse(expression)
    return set(re.findall(r"\b([a-z]+(?:_[a-z]+)+)\{", expression))


def test_alerts_ask_for_metrics_that_somebody_exports(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        asked = metrics(rule["expr"])
        assert asked, rule["alert"]
        assert asked <= EXPORTED, rule["alert"]


def test_what_alerts_and_dashboards_ask_of_labels_is_labels_of_the_metric(
    rules: list[dict[str, Any]],
) -> None:
    # What Prometheus adds to each series that it scrapes from a pod.
    added = {"namespace", "pod", "container"}
    for expression in [*(rule["expr"] for rule in rules), *expressions_of_dashboards()]:
        for name, matchers in re.findall(r"\b((?:headrace|gen_ai)_\w+)\{([^}]*)\}", expression):
            plain = re.sub(r"_(bucket|count|sum)$", "", name)
            metric = (GATEWAY | BILLING).get(name) or (GATEWAY | BILLING)[plain]
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
            assert asked <= added | set(metric.labels), expression


def test_dashboards_ask_for_metrics_that_somebody_exports() -> None:
    expressions = expressions_of_dashboards()
    assert expressions
    for expression in expressions:
        assert metrics(expression) <= EXPORTED, expression


def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do(rules: list[dict[str, Any]]) -> None:
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_alerts_watch_workloads_that_the_chart_makes(helm: Helm, rules: list[dict[str, Any]]) -> None:
    made = {owner["metadata"]["name"] for owner, _ in helm.render(RELEASES["dev"]).workloads()}
    for rule in rules:
        for operator, name in re.findall(r'deployment(=~?)"([^"]+)"', rule["expr"]):
            assert any(re.fullmatch(name if operator == "=~" else re.escape(name), one) for one in made), name


def test_dashboards_are_found_by_grafana_s_sidecar(helm: Helm) -> None:
    release: Release = helm.render(RELEASES["everything"])
    found = [
        config
        for config in release.of_kind("ConfigMap")
        if config["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    texts = [text for config in found for text in config["data"].values()]
    assert [json.loads(text) for text in texts] == dashboards()


def test_alerts_speak_when_they_should_and_only_then(rules: list[dict[str, Any]], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH (Debian has it in the package prometheus)")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "headrace", "rules": rules}]}))
    shutil.copy(TESTS, tmp_path / "tests.yaml")
    finished = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_alert_has_a_case_in_which_it_speaks_and_one_in_which_it_does_not(
    rules: list[dict[str, Any]],
) -> None:
    quiet, loud, elsewhere = yaml.safe_load(TESTS.read_text())["tests"]
    names = {rule["alert"] for rule in rules}
    assert {case["alertname"] for case in quiet["alert_rule_test"]} == names
    samples = [sample for case in (loud, elsewhere) for sample in case["promql_expr_test"][0]["exp_samples"]]
    assert {re.findall(r'"(\w+)"', sample["labels"])[0] for sample in samples} == names
