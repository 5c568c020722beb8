"""The definition in the chart is the types' own, and one that an API server takes."""

from collections.abc import Iterator
from typing import Any

import cel
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from headrace_platform.control import crd
from headrace_platform.control.deployment import decode
from headrace_platform.control.rules import violations as rule_violations
from tests.architecture.tree import ROOT
from tests.platform.control.examples import NAMES, SHA256, body, deployment, environment
from tests.support.kubernetes.schema import violations, with_defaults

FILE = ROOT / "deploy/helm/headrace/crds/headrace.dev_modeldeployments.yaml"


def test_the_chart_s_definition_is_what_the_types_say() -> None:
    assert FILE.read_text() == crd.text(), (
        f"python -m headrace_platform.control.crd > {FILE.relative_to(ROOT)}"
    )


@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
def test_it_is_a_definition_to_kubernetes(version: str) -> None:
    kubernetes_validate.validate(crd.definition(), version, strict=True)


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from nodes(schema[name])


def test_its_schema_is_structural_and_bounds_everything() -> None:
    schema = crd.schema()
    for node in [*nodes(schema["properties"]["spec"]), *nodes(schema["properties"]["status"])]:
        assert not {"$ref", "anyOf", "oneOf", "allOf", "not", "nullable"}.intersection(node)
        assert node["type"] in {"object", "array", "string", "integer", "boolean"}
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, node
        if node["type"] == "array":
            assert "maxItems" in node, node
        if node["type"] == "object":
            assert "properties" in node or "maxProperties" in node, node


@pytest.mark.parametrize("name", NAMES)
def test_the_api_server_would_take_every_example(name: str) -> None:
    schema = crd.schema()
    assert list(violations(with_defaults(body(name), schema), schema)) == []


def test_the_api_server_fills_in_what_reading_fills_in() -> None:
    for name in NAMES:
        filled = with_defaults(body(name), crd.schema())
        assert decode(filled).spec == decode(body(name)).spec


def test_files_elsewhere_in_the_chart_may_be_read_by_a_tool_that_knows_no_anchors() -> None:
    assert "&id" not in FILE.read_text()
    assert yaml.safe_load(FILE.read_text()) == crd.definition()


def rules() -> list[tuple[tuple[str, ...], str]]:
    return [(path, rule) for path, each in crd.VALIDATIONS.items() for rule, _ in each]


def obeyed(
    rule: str, path: tuple[str, ...], now: dict[str, Any], before: dict[str, Any] | None = None
) -> bool:
    """The API server's answer; true where there is nothing at the path."""
    filled, old = (with_defaults(whole or now, crd.schema()) for whole in (now, before))
    for name in path:
        if name not in filled or name not in old:
            return True
        filled, old = filled[name], old[name]
    told = cel.evaluate(rule, {"self": filled, "oldSelf": old})
    assert isinstance(told, bool)
    return told


@pytest.mark.parametrize("name", NAMES)
def test_every_example_obeys_the_rules_in_the_definition(name: str) -> None:
    assert [rule for path, rule in rules() if not obeyed(rule, path, body(name))] == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dedicated", {"model.source.sha256": None}),
        ("dedicated", {"model.source": {"sha256": SHA256}}),
        ("dedicated", {"model.source.hostPath": {"path": "/srv/models/x"}}),
        ("dedicated", {"scaling.minReplicas": 3}),
        ("dedicated", {"scaling.replicas": 1}),
        ("incremental", {"upgrade.stepPercent": 26}),
        ("small", {"routing": {"overflow": True}}),
        (
            "small",
            {"lifecycle": {"deprecatedAt": "2027-03-01T00:00:00Z", "sunsetAt": "2027-02-28T23:59:59Z"}},
        ),
        (
            "small",
            {
                "lifecycle": {
                    "deprecatedAt": "2027-03-01T00:00:00Z",
                    "sunsetAt": "2027-03-01T01:00:00+02:00",
                }
            },
        ),
    ],
)
def test_what_the_definition_forbids_breaks_the_operator_s_rules_too(
    name: str, changes: dict[str, Any]
) -> None:
    broken = [rule for path, rule in rules() if not obeyed(rule, path, body(name, changes))]
    assert len(broken) == 1
    assert rule_violations(deployment(name, changes), environment())


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("routing.weight", -1, ".spec.routing.weight: -1 is out of range"),
        ("routing.weight", 0.5, ".spec.routing.weight: must be of type integer, not float"),
        ("routing.waitSeconds", 3601, ".spec.routing.waitSeconds: 3601 is out of range"),
        ("routing.projects", ["proj_1", "proj_1"], ".spec.routing.projects: holds the same twice"),
        ("routing.projects", ["a project"], ".spec.routing.projects[0]: 'a project' does not match"),
        ("routing.canary", 5, ".spec.routing.canary: unknown field"),
        ("lifecycle.sunsetAt", "2027-02-29T00:00:00Z", ".spec.lifecycle.sunsetAt: '2027-02-29T00:00:00Z' is no"),
        ("lifecycle.sunsetAt", "2027-03-01", ".spec.lifecycle.sunsetAt: '2027-03-01' does not match"),
        ("lifecycle.deprecatedAt", "2027-03-01T00:00:00", ".spec.lifecycle.deprecatedAt: '2027-03-01T00:00:00' "),
        ("lifecycle.deprecatedAt", 1803859200, ".spec.lifecycle.deprecatedAt: must be of type string, not int"),
    ],
)  # fmt: skip
def test_what_the_gateways_could_not_be_told_is_refused_at_its_field(
    path: str, value: Any, told: str
) -> None:
    schema = crd.schema()
    found = list(violations(with_defaults(body("small", {path: value}), schema), schema))
    assert found
    assert found[0].startswith(told)


def test_what_came_later_is_written_into_no_object_that_does_not_say_it() -> None:
    # An operator of the release before would refuse the object for it.
    filled = with_defaults(body("small"), crd.schema())["spec"]
    assert filled["routing"] == {"policy": "leastLoaded"}
    assert "lifecycle" not in filled


@pytest.mark.parametrize("name", ["a" * 41, "1a", "a-", "a_b"])
def test_a_name_that_no_cluster_could_have_is_refused_at_once(name: str) -> None:
    whole = body("small")
    whole["metadata"]["name"] = name
    assert len([rule for path, rule in rules() if not obeyed(rule, path, whole)]) == 1


@pytest.mark.parametrize("changes", [{"tenantRef": None}, {"tenantRef.org": "umbrella"}])
def test_a_deployment_stays_with_its_tenant(changes: dict[str, Any]) -> None:
    mine, theirs = body("dedicated"), body("dedicated", changes)
    assert [path for path, rule in rules() if not obeyed(rule, path, theirs, before=mine)] == [("spec",)]
    assert [path for path, rule in rules() if not obeyed(rule, path, mine, before=theirs)] == [("spec",)]
