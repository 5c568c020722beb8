"""A cluster would take what is rendered, and it would be safe there."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from headrace_contracts.deployments import Hearing, Task, Thinking, decode_table
from headrace_platform.control.labels import Manifest
from headrace_platform.control.render import render
from headrace_platform.control.route import render_route, table
from tests.platform.control.examples import NAMES, body, deployment, environment
from tests.platform.control.validation import pod_specs, problems, unrestricted


def rendered(name: str, changes: dict[str, Any] | None = None) -> list[Manifest]:
    wanted, settings = deployment(name, changes), environment()
    return [*render(wanted, settings), render_route(wanted, settings)]


def services(name: str, changes: dict[str, Any] | None = None) -> list[Manifest]:
    return [manifest for manifest in rendered(name, changes) if manifest["kind"] == "RayService"]


def kinds(name: str, changes: dict[str, Any] | None = None) -> list[str]:
    return [manifest["kind"] for manifest in rendered(name, changes)]


@pytest.mark.parametrize("name", NAMES)
def test_every_object_is_one_that_a_cluster_takes(name: str) -> None:
    assert {manifest["kind"]: problems(manifest) for manifest in rendered(name) if problems(manifest)} == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_holds_to_the_restricted_level(name: str) -> None:
    for manifest in rendered(name):
        for pod in pod_specs(manifest):
            assert unrestricted(pod) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_image_is_named_by_its_digest(name: str) -> None:
    for value in strings(rendered(name)):
        if value.startswith("registry."):
            assert "@sha256:" in value, value


def test_the_cluster_s_own_registry_takes_the_place_of_any_other() -> None:
    settings = environment({"registry": "mirror.example.com"})
    for manifest in render(deployment("air-gapped"), settings):
        for pod in pod_specs(manifest):
            for container in [*pod["containers"], *pod.get("initContainers", ())]:
                assert container["image"].startswith("mirror.example.com/headrace/engine@sha256:")


def test_weights_in_an_image_come_from_the_cluster_s_own_registry_too() -> None:
    service = next(
        manifest
        for manifest in render(deployment("many-clusters"), environment({"registry": "mirror.example.com"}))
        if manifest["kind"] == "RayService"
    )
    (volume,) = [each["image"] for each in pod_specs(service)[1]["volumes"] if "image" in each]
    assert volume["reference"].startswith("mirror.example.com/models/glm-4.5-air-fp8@sha256:")


def test_every_pod_may_pull_its_image() -> None:
    for manifest in rendered("dedicated"):
        for pod in pod_specs(manifest):
            assert pod["imagePullSecrets"] == [{"name": "registry-login"}]


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_outlives_the_longest_stream_and_drains_before_it_ends(name: str) -> None:
    longest = environment().longest_stream_seconds
    for service in services(name):
        _, worker = pod_specs(service)
        command = worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert longest < int(command[-1]) < worker["terminationGracePeriodSeconds"]
        assert service["spec"]["rayClusterDeletionDelaySeconds"] > longest


@pytest.mark.parametrize("name", NAMES)
def test_the_head_takes_no_work_and_workers_take_what_the_pod_has(name: str) -> None:
    for service in services(name):
        cluster = service["spec"]["rayClusterConfig"]
        parameters = cluster["headGroupSpec"]["rayStartParams"]
        assert (parameters["num-cpus"], parameters["num-gpus"]) == ("0", "0")
        for group in cluster["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            assert group["rayStartParams"]["num-gpus"] == limits.get("nvidia.com/gpu", "0")


def test_only_the_gateway_and_those_that_look_after_it_reach_an_engine_from_outside() -> None:
    policies = [manifest for manifest in rendered("dedicated") if manifest["kind"] == "NetworkPolicy"]
    callers: dict[int, set[str]] = {}
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"]["ingress"]:
            for peer in rule["from"]:
                if "namespaceSelector" not in peer:
                    # Its own pods; no port of theirs is closed to one another.
                    assert peer["podSelector"]["matchLabels"] == {"headrace.dev/deployment": "acme-glm-4-7"}
                    continue
                namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                for port in rule["ports"]:
                    callers.setdefault(port["port"], set()).add(namespace)
    assert callers == {
        8000: {"headrace", "kuberay"},
        52365: {"kuberay"},
        8265: {"kuberay"},
        8080: {"headrace", "monitoring"},
    }


def test_an_engine_whose_weights_are_at_hand_may_not_go_out_for_any() -> None:
    policy = rendered("air-gapped")[0]
    assert "ipBlock" not in json.dumps(policy)


def test_no_pod_names_a_folder_of_its_node() -> None:
    assert kinds("air-gapped").count("PersistentVolume") == 1
    for service in services("air-gapped"):
        assert "hostPath" not in json.dumps(service)


@pytest.mark.parametrize(("name", "budget"), [("small", None), ("air-gapped", 1), ("incremental", 3)])
def test_all_replicas_but_one_are_kept_from_eviction(name: str, budget: int | None) -> None:
    found = [
        manifest["spec"]["minAvailable"]
        for manifest in rendered(name)
        if manifest["kind"] == "PodDisruptionBudget"
    ]
    assert found == ([] if budget is None else [budget])


def test_more_than_fifty_workers_are_several_clusters_that_share_the_replicas() -> None:
    clusters = services("many-clusters")
    bounds = [serve(each)["deployments"][0]["autoscaling_config"] for each in clusters]
    assert [each["min_replicas"] for each in bounds] == [7, 7, 7]
    assert [each["max_replicas"] for each in bounds] == [40, 40, 40]
    groups = [each["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"] for each in clusters]
    assert max(groups) <= 50


def test_a_replica_of_several_nodes_is_one_group_of_pods() -> None:
    changes = {
        "accelerator.count": 16,
        "parallelism": {"tensor": 8, "pipeline": 2},
        "scaling": {"replicas": 1},
    }
    (service,) = services("dedicated", changes)
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert group["numOfHosts"] == 2
    assert group["rayStartParams"]["num-gpus"] == "8"
    options = serve(service)["deployments"][0]
    # A bundle for each of vLLM's workers; the replica itself sits in the first and takes no GPU.
    assert [bundle["GPU"] for bundle in options["placement_group_bundles"]] == [1] * 16
    assert options["ray_actor_options"]["num_gpus"] == 0


def test_an_incremental_upgrade_goes_through_kuberay_s_gateway() -> None:
    (service,) = services("incremental")
    assert service["spec"]["upgradeStrategy"]["clusterUpgradeOptions"] == {
        "gatewayClassName": "istio",
        "maxSurgePercent": 25,
        "stepSizePercent": 25,
        "intervalSeconds": 120,
    }
    (route,) = decode_table(rendered("incremental")[-1]["data"]["models.glm-shifting.json"]).deployments
    assert route.url == "http://glm-shifting-c1-gateway-istio.models.svc.cluster.local"


def test_a_change_of_scale_changes_neither_pods_nor_what_serve_would_build_anew() -> None:
    (before,), (after,) = services("incremental"), services("incremental", {"scaling.maxReplicas": 6})
    assert pod_specs(before) == pod_specs(after)
    assert serve(before)["args"] == serve(after)["args"]
    assert before != after


def test_a_fixed_number_of_replicas_is_no_range() -> None:
    options = serve(services("air-gapped")[0])["deployments"][0]
    assert options["num_replicas"] == 2
    assert "autoscaling_config" not in options


def test_whoever_scales_from_outside_sets_the_number() -> None:
    options = serve(services("incremental", {"scaling.mode": "external", "scaling.replicas": 5})[0])[
        "deployments"
    ][0]
    assert options["num_replicas"] == 5


def test_a_suspended_deployment_gives_everything_back() -> None:
    assert services("dedicated", {"suspend": True})[0]["spec"]["suspend"] is True


def test_objects_go_with_their_deployment_or_say_whose_they_are() -> None:
    for manifest in rendered("air-gapped")[:-1]:
        meta = manifest["metadata"]
        if meta.get("namespace") == "models":
            assert [owner["uid"] for owner in meta["ownerReferences"]] == [
                body("air-gapped")["metadata"]["uid"]
            ]
        else:
            assert meta["labels"]["headrace.dev/namespace"] == "models"


def test_without_prometheus_nothing_asks_for_metrics() -> None:
    assert "PodMonitor" in kinds("small")
    without = render(deployment("small"), environment({"monitoring": None}))
    assert "PodMonitor" not in [manifest["kind"] for manifest in without]


def test_a_promised_latency_is_watched() -> None:
    (rule,) = [manifest for manifest in rendered("dedicated") if manifest["kind"] == "PrometheusRule"]
    first, between = rule["spec"]["groups"][0]["rules"]
    assert 'namespace="acme", headrace_dev_deployment="acme-glm-4-7"' in first["expr"]
    assert first["expr"].endswith(" > 2000")
    assert between["expr"].endswith(" > 60")
    assert "PrometheusRule" not in kinds("small")


@pytest.mark.parametrize("name", NAMES)
def test_the_gateway_reads_the_very_table_that_was_meant(name: str) -> None:
    wanted, settings = deployment(name), environment()
    (text,) = render_route(wanted, settings)["data"].values()
    assert decode_table(text) == table(wanted, settings)


def test_the_route_is_for_the_tenant_alone() -> None:
    (line,) = decode_table(rendered("dedicated")[-1]["data"]["acme.acme-glm-4-7.json"]).deployments
    assert line.tenant == "acme"
    assert line.aliases == ["acme/glm"]
    assert line.url == "http://acme-glm-4-7-c1-serve-svc.acme.svc.cluster.local:8000"
    assert serve(services("dedicated")[0])["args"]["deployment"] == line.id


@pytest.mark.parametrize(
    ("model", "thinking", "image_tokens"),
    [
        ("intellect-3", None, 0),
        ("glm-5.3-flash", Thinking(efforts=["low", "high", "max"]), 8000),
        ("glm-4.5v", Thinking(switch="enable_thinking"), 7500),
    ],
)
def test_the_route_tells_what_the_catalogue_knows_of_thinking_and_images(
    model: str, thinking: Thinking | None, image_tokens: int
) -> None:
    wanted = deployment("dedicated", {"model.id": model, "accelerator.count": 8})
    (line,) = table(wanted, environment()).deployments
    assert (line.task, line.thinking, line.image_tokens_max) == (Task.GENERATE, thinking, image_tokens)


def test_a_model_that_writes_down_speech_is_routed_as_one_and_its_engine_takes_no_longer_recording() -> None:
    wanted = deployment(
        "dedicated",
        {
            "model.id": "glm-asr-nano-2512",
            "model.format": "bf16",
            "parallelism": None,
            "accelerator.count": 1,
        },
    )
    (line,) = table(wanted, environment()).deployments
    assert line.task is Task.TRANSCRIBE
    assert line.hearing == Hearing(token_milliseconds=80, seconds_max=480)
    [service] = [each for each in render(wanted, environment()) if each["kind"] == "RayService"]
    assert [
        each["ray_actor_options"]["runtime_env"]["env_vars"]["VLLM_MAX_AUDIO_DECODE_DURATION_S"]
        for each in serve(service)["deployments"]
    ] == ["480"]


def serve(service: Manifest) -> dict[str, Any]:
    """Serve's one application."""
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert isinstance(application, dict)
    return application


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
