"""Each rule: what breaks it, where it is told, and that a deployment which breaks none is left alone."""

from typing import Any

import pytest

from headrace_platform.control.deployment import decode
from headrace_platform.control.rules import violations
from tests.platform.control.examples import NAMES, SHA256, body, deployment, environment

TO_S3 = {"sha256": SHA256, "s3": {"uri": "s3://bucket/models", "sizeGib": 10}}

# Example, changes of its spec, code, path.
BROKEN: list[tuple[str, dict[str, Any], str, str]] = [
    ("small", {"model.id": "glm-4.8"}, "model_unknown", "spec.model.id"),
    ("small", {"model.servedNames": ["glm-4.7"]}, "served_name_taken", "spec.model.servedNames[0]"),
    ("dedicated", {"model.source": None}, "source_missing", "spec.model.source"),
    ("dedicated", {"model.source": {"sha256": SHA256}}, "source_ambiguous", "spec.model.source"),
    (
        "dedicated",
        {"model.source": {**TO_S3, "pvc": {"claimName": "x"}}},
        "source_ambiguous",
        "spec.model.source",
    ),
    ("dedicated", {"model.source.sha256": None}, "source_unproven", "spec.model.source.sha256"),
    ("incremental", {"model.source.pvc.path": "a/../../b"}, "source_path", "spec.model.source.pvc.path"),
    (
        "air-gapped",
        {"model.source.hostPath.path": "/etc"},
        "host_path_forbidden",
        "spec.model.source.hostPath.path",
    ),
    (
        "air-gapped",
        {"model.source.hostPath.path": "/srv/models/../../etc"},
        "host_path_forbidden",
        "spec.model.source.hostPath.path",
    ),
    ("small", {"model.format": "fp8"}, "format_missing", "spec.model.format"),
    ("small", {"engine.rayVersion": "2.51.9"}, "ray_too_old", "spec.engine.rayVersion"),
    ("small", {"engine.args": ["--api-key=x"]}, "engine_argument_forbidden", "spec.engine.args[0]"),
    (
        "small",
        {"engine.args": ["--seed", "1", "--api_key"]},
        "engine_argument_forbidden",
        "spec.engine.args[2]",
    ),
    ("small", {"engine.args": ["--trust-remote"]}, "engine_argument_forbidden", "spec.engine.args[0]"),
    (
        "small",
        {"engine.args": ["--tool-parser-plugin", "/x.py"]},
        "engine_argument_forbidden",
        "spec.engine.args[0]",
    ),
    ("small", {"engine.args": ["-tp"]}, "engine_argument_forbidden", "spec.engine.args[0]"),
    ("small", {"accelerator.profile": "h300"}, "profile_unknown", "spec.accelerator.profile"),
    ("small", {"accelerator.count": 1}, "accelerator_count", "spec.accelerator.count"),
    ("small", {"accelerator.profile": "h200"}, "accelerator_count", "spec.accelerator.count"),
    (
        "dedicated",
        {"accelerator.count": 12, "parallelism": {"tensor": 4, "pipeline": 3}},
        "accelerator_count",
        "spec.accelerator.count",
    ),
    ("dedicated", {"parallelism.tensor": 4}, "parallelism_mismatch", "spec.parallelism"),
    (
        "dedicated",
        {"accelerator.count": 16, "parallelism.tensor": 16},
        "tensor_across_nodes",
        "spec.parallelism.tensor",
    ),
    (
        "dedicated",
        {"accelerator.count": 1, "parallelism.tensor": 1},
        "does_not_fit",
        "spec.parallelism",
    ),
    ("dedicated", {"scaling.minReplicas": 3}, "bounds_reversed", "spec.scaling.minReplicas"),
    ("dedicated", {"scaling.minReplicas": 0}, "zero_unbounded", "spec.scaling.minReplicas"),
    ("dedicated", {"scaling.replicas": 2}, "replicas_ignored", "spec.scaling.replicas"),
    ("small", {"routing.overflow": True}, "overflow_shared", "spec.routing.overflow"),
    ("many-clusters", {"routing.weight": 1}, "weight_too_small", "spec.routing.weight"),
    (
        "small",
        {"lifecycle": {"deprecatedAt": "2027-03-01T00:00:00Z", "sunsetAt": "2027-03-01T00:00:00+02:00"}},
        "sunset_before_deprecation",
        "spec.lifecycle.sunsetAt",
    ),
    (
        "dedicated",
        {"scaling.targets": {"ongoingRequests": 9, "ongoingRequestsMax": 8}},
        "target_unreachable",
        "spec.scaling.targets.ongoingRequests",
    ),
    ("small", {"scaling.replicas": 0}, "replicas_none", "spec.scaling.replicas"),
    (
        "small",
        {"scaling.scaleToZeroAfterSeconds": 60},
        "zero_ignored",
        "spec.scaling.scaleToZeroAfterSeconds",
    ),
    (
        "dedicated",
        {"scaling.mode": "external", "scaling.replicas": 9},
        "replicas_out_of_bounds",
        "spec.scaling.replicas",
    ),
    ("dedicated", {"scaling.mode": "fixed"}, "schedules_ignored", "spec.scaling.schedules"),
    (
        "dedicated",
        {"upgrade.window.timeZone": "Europe/Atlantis"},
        "time_zone_unknown",
        "spec.upgrade.window.timeZone",
    ),
    ("incremental", {"upgrade.stepPercent": 26}, "step_above_surge", "spec.upgrade.stepPercent"),
    ("incremental", {"scaling.minReplicas": 1}, "upgrade_of_one", "spec.upgrade.strategy"),
    (
        "small",
        {"scheduling.tolerations": [{"key": "a", "operator": "Equal"}]},
        "toleration_malformed",
        "spec.scheduling.tolerations[0].value",
    ),
    (
        "small",
        {"scheduling.nodeSelector": {"a b": "c"}},
        "node_selector_malformed",
        "spec.scheduling.nodeSelector",
    ),
    (
        "dedicated",
        {"exposure.hostname": "umbrella.example.com"},
        "hostname_forbidden",
        "spec.exposure.hostname",
    ),
    ("small", {"exposure.hostname": "acme.example.com"}, "hostname_forbidden", "spec.exposure.hostname"),
    ("many-clusters", {"scaling.maxReplicas": 1000}, "quota_exceeded", "spec.scaling"),
    ("dedicated", {"scaling.maxReplicas": 3}, "quota_exceeded", "spec.scaling"),
    ("dedicated", {"tenantRef.org": "umbrella"}, "quota_missing", "spec.tenantRef.org"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_breaks_no_rule(name: str) -> None:
    assert violations(deployment(name), environment()) == []


@pytest.mark.parametrize(("name", "changes", "code", "path"), BROKEN)
def test_what_breaks_a_rule_is_told_where_it_stands(
    name: str, changes: dict[str, Any], code: str, path: str
) -> None:
    found = violations(deployment(name, changes), environment())
    assert (code, path) in {(each.code, each.path) for each in found}


@pytest.mark.parametrize("name", ["a" * 41, "1a", "a-", "A", "a.b", ""])
def test_a_name_that_ray_s_clusters_could_not_have_is_refused(name: str) -> None:
    whole = body("small")
    whole["metadata"]["name"] = name
    assert {each.path for each in violations(decode(whole), environment())} == {"metadata.name"}


@pytest.mark.parametrize(
    ("example", "changes", "setting", "code"),
    [
        ("dedicated", {}, {"weights": []}, "source_unreachable"),
        ("dedicated", {}, {"gateway.parentName": None}, "hostname_unattached"),
        ("incremental", {}, {"upgradeGateway": None}, "upgrade_gateway_missing"),
        ("air-gapped", {}, {"hostPaths": []}, "host_path_forbidden"),
        ("small", {}, {"gpuProfiles.cpu.engine": "abacus"}, "profile_unreadable"),
    ],
)
def test_what_the_cluster_s_owner_did_not_allow_is_refused(
    example: str, changes: dict[str, Any], setting: dict[str, Any], code: str
) -> None:
    found = violations(deployment(example, changes), environment(setting))
    assert code in {each.code for each in found}


@pytest.mark.parametrize("argument", ["--max-num-seqs=64", "--max_num_seqs", "--seed", "-1", "plain value"])
def test_what_tunes_an_engine_may_be_given(argument: str) -> None:
    assert violations(deployment("small", {"engine.args": [argument]}), environment()) == []


def test_the_cluster_s_owner_may_allow_more_of_vllm_s_arguments() -> None:
    wanted = deployment("small", {"engine.args": ["--enable-log-requests"]})
    assert violations(wanted, environment())
    assert not violations(wanted, environment({"engineArguments": ["--enable-log-requests"]}))


def test_a_second_cluster_for_an_upgrade_needs_its_quota() -> None:
    # Twelve of the 32 would be left with two replicas of eight, but an upgrade takes them twice.
    assert violations(deployment("dedicated"), environment({"quotas.acme.h200": 31}))
    assert not violations(deployment("dedicated"), environment({"quotas.acme.h200": 32}))
    assert not violations(
        deployment("dedicated", {"upgrade.strategy": "None"}), environment({"quotas.acme.h200": 16})
    )


def test_an_incremental_upgrade_needs_no_more_than_its_surge() -> None:
    # Eight replicas of four, and a quarter more of them.
    assert not violations(deployment("incremental"), environment({"sharedQuota.h200": 40}))
    assert violations(deployment("incremental"), environment({"sharedQuota.h200": 39}))


def test_what_a_tenant_holds_elsewhere_counts() -> None:
    assert violations(deployment("dedicated"), environment(), held={"h200": 1})
    assert not violations(deployment("dedicated"), environment(), held={"cpu": 1})


def test_a_suspended_deployment_takes_nothing_of_a_quota() -> None:
    suspended = deployment("dedicated", {"suspend": True})
    assert not violations(suspended, environment(), held={"h200": 32})


def test_everything_that_is_wrong_is_told_at_once() -> None:
    changes = {"model.source.sha256": None, "engine.args": ["--model"], "scaling.minReplicas": 9}
    codes = [each.code for each in violations(deployment("dedicated", changes), environment())]
    assert codes == ["source_unproven", "engine_argument_forbidden", "bounds_reversed"]


def test_a_code_is_a_condition_s_reason_too() -> None:
    (found,) = violations(deployment("dedicated", {"model.source.sha256": None}), environment())
    assert found.reason == "SourceUnproven"
