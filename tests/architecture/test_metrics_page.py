"""docs/operations/metrics.md names every metric and every alert as they are, and nothing else."""

import re
from pathlib import Path

from headrace_billing.metrics.catalogue import CATALOGUE as BILLING
from headrace_gateway.metrics.catalogue import CATALOGUE as GATEWAY
from headrace_telemetry.metrics import Kind, Metric

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations/metrics.md").read_text()
RULES = ROOT / "deploy/helm/headrace/templates/monitoring/prometheusrule.yaml"
EVERY = GATEWAY | BILLING


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def row(metric: Metric) -> tuple[str, str, str, str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return metric.name, metric.kind.value, labels, metric.meaning


def rows(title: str) -> list[tuple[str, str, str, str]]:
    found = re.findall(
        r"^\| `(\w+)` \| (\w+) \| [^|]+ \| ([^|]*) \| ([^|]+) \|$", section(title), flags=re.MULTILINE
    )
    return [(name, kind, labels.strip(), meaning) for name, kind, labels, meaning in found]


def test_every_metric_stands_there_with_its_kind_labels_and_meaning() -> None:
    assert rows("Metrics of a gateway") == [row(metric) for metric in GATEWAY.values()]
    assert rows("Metrics of billing") == [row(metric) for metric in BILLING.values()]


def test_every_alert_has_something_to_do_and_no_other_is_named() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert re.findall(r"^\| (Headrace\w+) \|", section("When an alert speaks"), flags=re.MULTILINE) == alerts


def test_every_metric_that_the_text_speaks_of_is_one() -> None:
    assert set(re.findall(r"\bheadrace_(?:gateway|billing)_\w+", PAGE)) <= EVERY.keys()


def test_names_say_kind_and_unit_as_prometheus_wants_them() -> None:
    for metric in EVERY.values():
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert "_second_" not in metric.name
        if metric.kind is Kind.HISTOGRAM:
            assert metric.name.endswith("_seconds")
            assert list(metric.boundaries) == sorted(metric.boundaries)


def test_no_label_could_name_a_customer() -> None:
    for metric in EVERY.values():
        assert not set(metric.labels) & {
            "org",
            "organization",
            "project",
            "key",
            "wallet",
            "user",
            "session",
            "task",
        }
