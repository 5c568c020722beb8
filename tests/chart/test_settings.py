"""The chart and the processes agree: each variable is a setting of the process that gets it, and nothing is missing."""

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic_settings import BaseSettings

from headrace_billing.settings import ApiSettings, DatabaseSettings, WorkerSettings
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.settings import GatewaySettings
from headrace_gateway.valkey.connection import parse_url
from headrace_platform.control.environment import Environment
from headrace_platform.control.settings import OperatorSettings
from tests.chart.helm import NAMESPACE, Helm, Manifest, Refused, Release, Values
from tests.chart.operator import operator_environment
from tests.chart.releases import DEV, DIGEST, EXTERNAL, RELEASES, merged

# Which settings each container is started with.
PROCESSES: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "api": ApiSettings,
    "worker": WorkerSettings,
    "migrate": DatabaseSettings,
    "schema": DatabaseSettings,
    "operator": OperatorSettings,
}

# What a Secret may hold, by the variable that it is given to.
SECRETS = {
    "DATABASE_URL": "postgresql://headrace:secret@db.example.internal:5432/headrace",
    "VALKEY_URL": "rediss://:secret@valkey.example.internal:6379/0",
    "SIGNING_KEY": "ab" * 32,
}
OPENTELEMETRY = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
FIELDS = {"metadata.name": "headrace-gateway-6d8f7c9b5d-x2x4z", "metadata.namespace": NAMESPACE}
MEBIBYTE = 2**20


def containers(release: Release) -> dict[str, Manifest]:
    return {
        container["name"]: container
        for _, template in release.workloads()
        for container in (*template["spec"].get("initContainers", []), *template["spec"]["containers"])
    }


def environment(container: Manifest) -> dict[str, str]:
    """As the kubelet would set it: references filled in, variables in values replaced."""
    found: dict[str, str] = {}
    for variable in container["env"]:
        name = variable["name"]
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = next((secret for ending, secret in SECRETS.items() if name.endswith(ending)), "s" * 32)
        elif "fieldRef" in source:
            value = FIELDS[source["fieldRef"]["fieldPath"]]
        else:
            value = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], variable["value"])
        found[name] = value
    return found


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("values", ["external", "dev", "everything"])
def test_a_process_starts_with_what_the_chart_gives_it(
    helm: Helm, monkeypatch: pytest.MonkeyPatch, process: str, values: str
) -> None:
    given = environment(containers(helm.render(RELEASES[values]))[process])
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    PROCESSES[process]()


def test_the_gateway_believes_the_load_balancers_that_it_is_told_of(
    helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(containers(helm.render(RELEASES["everything"]))["gateway"]).items():
        monkeypatch.setenv(name, value)
    assert list(map(str, GatewaySettings.from_environment().trusted_proxies)) == ["10.0.0.0/16", "fd00::/8"]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("values", ["external", "dev", "everything"])
def test_the_chart_gives_a_process_nothing_that_it_does_not_know(
    helm: Helm, process: str, values: str
) -> None:
    settings = PROCESSES[process]
    prefix = str(settings.model_config["env_prefix"])
    # The two passwords that evaluation's addresses are put together from.
    known = {f"{prefix}{name.upper()}" for name in settings.model_fields} | {
        "POSTGRES_PASSWORD",
        "VALKEY_PASSWORD",
    }
    if process == "gateway":
        known |= OPENTELEMETRY
    assert environment(containers(helm.render(RELEASES[values]))[process]).keys() <= known


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_gets_each_secret_that_it_must_have_by_reference_and_nobody_else_s(
    helm: Helm, process: str
) -> None:
    settings = PROCESSES[process]
    prefix = str(settings.model_config["env_prefix"])
    secret = {
        f"{prefix}{name.upper()}": field.is_required()
        for name, field in settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    given = {
        variable["name"]
        for variable in containers(helm.render(EXTERNAL))[process]["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert {name for name, is_required in secret.items() if is_required} <= given <= secret.keys()


FURTHER: Values = {
    "settings": {"HEAD_TIMEOUT_SECONDS": 12, "NAMED": "a: b"},
    "secretSettings": {"ANOTHER_SECRET": {"name": "another", "key": "secret"}},
}


@pytest.mark.parametrize(
    ("component", "names"),
    [("gateway", ["gateway"]), ("billing", ["api", "worker"]), ("operator", ["operator"])],
)
def test_a_process_can_be_told_whatever_else_it_knows(helm: Helm, component: str, names: list[str]) -> None:
    by_name = containers(helm.render(merged(EXTERNAL, {component: FURTHER})))
    for name in names:
        variables = {variable["name"]: variable for variable in by_name[name]["env"]}
        prefix = f"HEADRACE_{component.upper()}_"
        assert variables[f"{prefix}HEAD_TIMEOUT_SECONDS"]["value"] == "12"
        assert variables[f"{prefix}NAMED"]["value"] == "a: b"
        assert variables[f"{prefix}ANOTHER_SECRET"]["valueFrom"] == {
            "secretKeyRef": {"name": "another", "key": "secret"}
        }


PLUG_INS = [
    {
        "plugin": "headrace_gateway.guardrails.patterns:Patterns",
        "options": {"file": "/etc/headrace/<patterns>.toml"},
    }
]


@pytest.mark.parametrize("write", [json.dumps, lambda value: value], ids=["as JSON", "as YAML"])
def test_the_gateway_takes_lists_objects_and_large_numbers_as_the_chart_writes_them(
    helm: Helm, monkeypatch: pytest.MonkeyPatch, write: Callable[[Any], Any]
) -> None:
    settings = {
        "GUARDRAILS": write(PLUG_INS),
        "IMAGE_HOSTS": write(["images.example.com"]),
        "AUDIO_BODY_BYTES_MAX": write(64 * MEBIBYTE),
    }
    release = helm.render(merged(EXTERNAL, {"gateway": {"settings": settings}}))
    for name, value in environment(containers(release)["gateway"]).items():
        monkeypatch.setenv(name, value)
    taken = GatewaySettings.from_environment()
    assert [{"plugin": each.plugin, "options": each.options} for each in taken.guardrails] == PLUG_INS
    assert taken.image_hosts == {"images.example.com"}
    assert taken.audio_body_bytes_max == 64 * MEBIBYTE


@pytest.mark.parametrize("component", ["gateway", "billing", "operator"])
def test_nothing_is_told_twice(helm: Helm, component: str) -> None:
    prefix = f"HEADRACE_{component.upper()}_"
    own = {
        variable["name"].removeprefix(prefix)
        for values in (EXTERNAL, DEV)
        for container in containers(helm.render(values)).values()
        for variable in container.get("env", [])
        if variable["name"].startswith(prefix)
    }
    for name in own:
        with pytest.raises(Refused, match=name):
            helm.render(merged(EXTERNAL, {component: {"settings": {name: "other"}}}))


def test_what_two_processes_must_agree_on_is_the_same_value_for_both(helm: Helm) -> None:
    for values in (EXTERNAL, DEV):
        release = helm.render(values)
        by_name = containers(release)
        variables = {name: {v["name"]: v for v in by_name[name]["env"]} for name in PROCESSES}
        token = variables["gateway"]["HEADRACE_GATEWAY_INGEST_TOKEN"]["valueFrom"]
        for billing in ("api", "worker"):
            assert token == variables[billing]["HEADRACE_BILLING_INGEST_TOKEN"]["valueFrom"]
        assert operator_environment(release).billing.ingest_token.key == token["secretKeyRef"]["key"]
        for shared in ("HEADRACE_BILLING_DATABASE_URL",):
            urls = [variables[name][shared] for name in ("api", "worker", "migrate", "schema")]
            assert all(url == urls[0] for url in urls)
        gateway = dict(variables["gateway"]["HEADRACE_GATEWAY_VALKEY_URL"], name="")
        assert gateway == dict(variables["worker"]["HEADRACE_BILLING_VALKEY_URL"], name="")


def test_the_gateway_finds_billing_by_its_service(helm: Helm) -> None:
    release = helm.render(merged(EXTERNAL, {"billing": {"service": {"port": 9000}}}))
    url = environment(containers(release)["gateway"])["HEADRACE_GATEWAY_BILLING_URL"]
    service = release.named("Service", "headrace-billing")
    assert url == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


def test_billing_finds_the_gateway_by_its_service_for_batches(helm: Helm) -> None:
    release = helm.render(merged(EXTERNAL, {"gateway": {"service": {"port": 9000}}}))
    service = release.named("Service", "headrace-gateway")
    for process in ("api", "worker"):
        url = environment(containers(release)[process])["HEADRACE_BILLING_GATEWAY_URL"]
        assert url == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


@pytest.mark.parametrize("process", ["gateway", "api"])
def test_a_server_listens_where_its_port_says(helm: Helm, process: str) -> None:
    container = containers(helm.render(EXTERNAL))[process]
    given = environment(container)
    prefix = str(PROCESSES[process].model_config["env_prefix"])
    assert given[f"{prefix}PORT"] == str(container["ports"][0]["containerPort"])
    assert ip_address(given[f"{prefix}HOST"]).is_unspecified


def test_a_gateway_that_is_told_to_stop_has_time_for_its_longest_stream_and_its_journal(helm: Helm) -> None:
    for seconds in (60, 7200):
        release = helm.render(merged(EXTERNAL, {"gateway": {"requestTimeoutSeconds": seconds}}))
        container = containers(release)["gateway"]
        given = environment(container)
        grace = release.named("Deployment", "headrace-gateway")["spec"]["template"]["spec"][
            "terminationGracePeriodSeconds"
        ]
        stream = float(given["HEADRACE_GATEWAY_GRACE_SECONDS"])
        assert stream == float(given["HEADRACE_GATEWAY_REQUEST_TIMEOUT_SECONDS"]) == seconds
        drain = float(given["HEADRACE_GATEWAY_DRAIN_SECONDS"])
        assert grace > container["lifecycle"]["preStop"]["sleep"]["seconds"] + stream + drain


@pytest.mark.parametrize("workers", [1, 4])
def test_a_full_journal_is_well_below_what_evicts_the_pod(helm: Helm, workers: int) -> None:
    release = helm.render(merged(EXTERNAL, {"gateway": {"workers": workers}}))
    pod = release.named("Deployment", "headrace-gateway")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "state")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["state"] == environment(container)["HEADRACE_GATEWAY_STATE_DIR"]
    limit = mebibytes(volume["emptyDir"]["sizeLimit"])
    settings = MeterSettings(name="a", state_dir=Path(), valkey_url="", billing_url="", ingest_token="")
    bound = settings.journal_bytes_max
    assert limit * MEBIBYTE >= 1.5 * workers * bound
    assert mebibytes(container["resources"]["limits"]["ephemeral-storage"]) > limit


def mebibytes(quantity: str) -> int:
    assert quantity.endswith("Mi")
    return int(quantity.removesuffix("Mi"))


def test_the_addresses_of_the_evaluation_lead_to_its_services(helm: Helm) -> None:
    release = helm.render(DEV)
    given = environment(containers(release)["api"])
    services = {service["metadata"]["name"] for service in release.of_kind("Service")}
    assert parse_url(given["HEADRACE_BILLING_VALKEY_URL"]).host in services
    assert given["HEADRACE_BILLING_DATABASE_URL"].split("@")[1].split(":")[0] in services


@pytest.mark.parametrize("values", sorted(RELEASES.keys() - {"least"}))
def test_the_operator_takes_what_it_is_told_of_the_cluster(helm: Helm, values: str) -> None:
    told = operator_environment(helm.render(RELEASES[values]))
    assert told.engine_image.digest == DIGEST
    assert told.gateway.pods.namespace == NAMESPACE


def test_the_operator_is_told_of_the_pods_and_services_that_are_there(helm: Helm) -> None:
    release = helm.render(DEV)
    told = operator_environment(release)
    labels = [template["metadata"]["labels"] for _, template in release.workloads()]
    for pods in (told.gateway.pods, told.operator, told.billing.destination.pods, told.gcs.destination.pods):
        assert pods is not None
        assert sum(pods.labels.items() <= label.items() for label in labels) == 1
    services: dict[str, Any] = {
        service["metadata"]["name"]: service["spec"] for service in release.of_kind("Service")
    }
    assert services[told.gateway.service_name]["ports"][0]["port"] == told.gateway.service_port
    assert told.billing.records_url.startswith(f"http://headrace-billing.{NAMESPACE}.svc.cluster.local:8081/")
    assert told.gcs.address == f"redis://headrace-gcs.{NAMESPACE}.svc.cluster.local:6379"
    mounted = release.named("Deployment", "headrace-gateway")["spec"]["template"]["spec"]["volumes"]
    assert told.gateway.routes_config_map in {volume.get("configMap", {}).get("name") for volume in mounted}


def test_whatever_the_operator_can_be_told_the_chart_can_say(helm: Helm) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(Environment)}
    said = {
        key
        for values in RELEASES.values()
        for config in helm.render(values).of_kind("ConfigMap")
        if "environment.json" in config["data"]
        for key in json.loads(config["data"]["environment.json"])
    }
    assert said == known
