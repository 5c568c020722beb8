"""The ways from outside to the gateway: whatever is in front waits longer than the gateway does, and keeps nothing back."""

import ast
import re

import pytest

from headrace_billing.batches.bounds import FILE_BYTES_MAX
from headrace_billing.body_limit import FORM_BYTES_MAX
from headrace_gateway.settings import GatewaySettings
from tests.chart.helm import ROOT, Helm
from tests.chart.releases import EXTERNAL, merged

SECONDS, WAIT_SECONDS = 1800, 40
WEBHOOK_ROUTE = ROOT / "billing" / "src" / "headrace_billing" / "payments" / "webhook_http.py"
SLOW = merged(
    EXTERNAL,
    {
        "gateway": {
            "requestTimeoutSeconds": SECONDS,
            "firstByteTimeoutSeconds": 400,
            "queueWaitSeconds": WAIT_SECONDS,
        }
    },
)


def test_a_route_waits_longer_than_the_longest_request(helm: Helm) -> None:
    values = merged(
        SLOW,
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["a.example.com"]}},
    )
    route = helm.render(values).named("HTTPRoute", "headrace-gateway")["spec"]
    assert route["hostnames"] == ["a.example.com"]
    (rule,) = route["rules"]
    assert {match["path"]["type"] for match in rule["matches"]} == {"PathPrefix"}
    assert rule["backendRefs"] == [{"name": "headrace-gateway", "port": 80}]
    for timeout in rule["timeouts"].values():
        assert int(timeout.removesuffix("s")) > WAIT_SECONDS + SECONDS


def ingress(helm: Helm, **changes: object) -> dict[str, str]:
    values = merged(SLOW, {"ingress": {"enabled": True, "host": "a.example.com", **changes}})
    annotations: dict[str, str] = helm.render(values).named("Ingress", "headrace-gateway")["metadata"][
        "annotations"
    ]
    return annotations


def test_nginx_waits_longer_than_the_longest_request_and_passes_tokens_on_as_they_come(helm: Helm) -> None:
    annotations = ingress(helm, controller="nginx")
    prefix = "nginx.ingress.kubernetes.io"
    assert int(annotations[f"{prefix}/proxy-read-timeout"]) > WAIT_SECONDS + SECONDS
    assert annotations[f"{prefix}/proxy-buffering"] == "off"
    # A second try after the first bytes would be a second bill.
    assert annotations[f"{prefix}/proxy-next-upstream"] == "error"
    assert int(annotations[f"{prefix}/proxy-body-size"]) >= FILE_BYTES_MAX + FORM_BYTES_MAX


def test_nginx_takes_the_largest_file_that_billing_does(helm: Helm) -> None:
    values = {"billing": {"settings": {"BATCH_FILE_BYTES_MAX": 2**30}}}
    release = helm.render(merged(SLOW, values, {"ingress": {"enabled": True, "host": "a.example.com"}}))
    annotations = release.named("Ingress", "headrace-gateway")["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"]) == 2**30 + FORM_BYTES_MAX


def test_nginx_takes_a_recording_also_where_files_are_small(helm: Helm) -> None:
    values = {"billing": {"settings": {"BATCH_FILE_BYTES_MAX": 1024}}}
    release = helm.render(merged(SLOW, values, {"ingress": {"enabled": True, "host": "a.example.com"}}))
    annotations = release.named("Ingress", "headrace-gateway")["metadata"]["annotations"]
    largest = GatewaySettings.model_fields["audio_body_bytes_max"].default
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"]) == largest


@pytest.mark.parametrize("bytes_max", [64 * 2**20, 200 * 2**20])
def test_nginx_takes_the_largest_body_that_the_gateway_does(helm: Helm, bytes_max: int) -> None:
    values = {
        "gateway": {"bodyBytesMax": bytes_max},
        "billing": {"settings": {"BATCH_FILE_BYTES_MAX": 1024}},
    }
    release = helm.render(merged(SLOW, values, {"ingress": {"enabled": True, "host": "a.example.com"}}))
    annotations = release.named("Ingress", "headrace-gateway")["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"]) == bytes_max


def test_an_alb_waits_longer_than_for_the_slowest_first_token(helm: Helm) -> None:
    annotations = ingress(helm, controller="alb")
    attributes = annotations["alb.ingress.kubernetes.io/load-balancer-attributes"]
    assert int(attributes.rpartition("=")[2]) > WAIT_SECONDS + 400
    assert "deregistration_delay.timeout_seconds=1830" in annotations.values()


def test_annotations_of_one_s_own_win(helm: Helm) -> None:
    key = "nginx.ingress.kubernetes.io/proxy-body-size"
    assert ingress(helm, annotations={key: "1m"})[key] == "1m"


@pytest.mark.parametrize("values", [SLOW, merged(EXTERNAL, {"billing": {"service": {"port": 9000}}})])
def test_nothing_but_the_gateway_is_open_to_the_outside(helm: Helm, values: dict[str, object]) -> None:
    release = helm.render(merged(values, {"gateway": {"service": {"type": "LoadBalancer"}}}))
    open_services = [
        s["metadata"]["name"]
        for s in release.of_kind("Service")
        if s["spec"].get("type") not in (None, "ClusterIP")
    ]
    assert open_services == ["headrace-gateway"]


STRIPE = {"stripe": {"existingSecret": "headrace-stripe", "returnUrl": "https://console.example.com"}}


def test_stripe_s_webhooks_and_nothing_else_come_to_billing_from_outside(helm: Helm) -> None:
    ways = {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        "ingress": {"enabled": True, "host": "a.example.com"},
    }
    release = helm.render(merged(EXTERNAL, ways, STRIPE))
    rules = release.named("HTTPRoute", "headrace-gateway")["spec"]["rules"]
    by_route = [
        (match["path"]["type"], match["path"]["value"])
        for rule in rules
        for match in rule["matches"]
        if rule["backendRefs"][0]["name"] == "headrace-billing"
    ]
    (rule,) = release.named("Ingress", "headrace-gateway")["spec"]["rules"]
    by_ingress = [
        (path["pathType"], path["path"])
        for path in rule["http"]["paths"]
        if path["backend"]["service"]["name"] == "headrace-billing"
    ]
    assert by_route == by_ingress == [("Exact", "/v1/stripe/webhook")]
    assert f'@router.post("{by_route[0][1]}")' in WEBHOOK_ROUTE.read_text()
    plain = helm.render(merged(EXTERNAL, ways))
    assert len(plain.named("HTTPRoute", "headrace-gateway")["spec"]["rules"]) == 1


def test_stripe_s_secret_comes_from_a_store_under_the_name_and_keys_that_billing_is_given(helm: Helm) -> None:
    store = {
        "enabled": True,
        "storeRef": {"name": "vault"},
        **{name: {"key": f"headrace/{name}"} for name in ("auth", "database", "valkey", "gcs", "stripe")},
    }
    named = {"apiKeyKey": "key", "webhookSecretsKey": "hooks"}
    release = helm.render(merged(EXTERNAL, STRIPE, {"stripe": named, "externalSecrets": store}))
    made = release.named("ExternalSecret", "headrace-stripe")["spec"]
    entries = {entry["secretKey"]: entry["remoteRef"] for entry in made["data"]}
    assert entries == {
        "key": {"key": "headrace/stripe", "property": "api-key"},
        "hooks": {"key": "headrace/stripe", "property": "webhook-secrets"},
    }
    worker = release.named("Deployment", "headrace-billing-worker")["spec"]["template"]["spec"]["containers"][
        0
    ]
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for variable in worker["env"]
        if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "headrace-stripe"
    }
    assert asked == entries.keys()
    without = helm.render(merged(EXTERNAL, STRIPE, {"externalSecrets": store | {"stripe": {"key": ""}}}))
    names = {found["metadata"]["name"] for found in without.of_kind("ExternalSecret")}
    assert "headrace-stripe" not in names


def test_billing_reaches_stripe_only_where_customers_pay(helm: Helm) -> None:
    for values, reaches in ((EXTERNAL, False), (merged(EXTERNAL, STRIPE), True)):
        release = helm.render(values)
        for name in ("headrace-billing", "headrace-billing-worker"):
            egress = release.named("NetworkPolicy", name)["spec"]["egress"]
            ports = {port["port"] for rule in egress for port in rule["ports"]}
            assert (443 in ports) is reaches


# Of the cluster and of whoever runs it, not of customers.
INSIDE = {"/healthz", "/readyz", "/metrics"}


def served() -> set[str]:
    """Paths that the gateway's sources name, whole ones alone."""
    found = set()
    for name in ("router.py", "shapes.py"):
        tree = ast.parse((ROOT / "gateway" / "src" / "headrace_gateway" / "http" / name).read_text())
        pieces = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces
            if re.fullmatch(r"(/[\w.]+)+/?", node.value)
        }
    return found


def test_what_customers_call_is_open_and_nothing_else(helm: Helm) -> None:
    values = merged(
        SLOW,
        {
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
            "ingress": {"enabled": True, "host": "a.example.com"},
        },
    )
    release = helm.render(values)
    (rule,) = release.named("HTTPRoute", "headrace-gateway")["spec"]["rules"]
    by_route = {match["path"]["value"] for match in rule["matches"]}
    (rule,) = release.named("Ingress", "headrace-gateway")["spec"]["rules"]
    assert {path["path"] for path in rule["http"]["paths"]} == by_route
    paths = served()
    assert "/v1/chat/completions" in paths
    for path in paths - INSIDE:
        assert any(path.startswith(f"{prefix}/") for prefix in by_route), path
    assert not any(path.startswith(prefix) for path in INSIDE for prefix in by_route)
