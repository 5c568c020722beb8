"""Sets of values that together reach every branch of the chart's templates."""

import copy
from typing import Any

import yaml

from tests.chart.helm import CHART, Values

DIGEST = "sha256:" + "0123456789abcdef" * 4

# What only whoever installs can know; the rest of each set is in the chart's own files.
BUILT: Values = {"images": {"engine": {"digest": DIGEST}}}

# The output `helm_values` of an environment, in its shape; `test_terraform_values` takes the real one.
TERRAFORM: Values = {
    "externalSecrets": {
        "auth": {"key": "arn:auth"},
        "database": {"key": "arn:rds", "host": "db.example.internal"},
        "valkey": {"key": "headrace/limits", "host": "limits.example.internal"},
        "gcs": {"key": "headrace/ray"},
    },
    "gcs": {"address": "rediss://ray.example.internal:6379", "cidrs": ["10.0.0.0/16"]},
}


def file(name: str) -> Values:
    values: Values = yaml.safe_load((CHART / f"values-{name}.yaml").read_text())
    return values


def merged(*sets: Values) -> Values:
    """As Helm merges several `--values`."""
    result: Values = {}
    for values in sets:
        _merge(result, copy.deepcopy(values))
    return result


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


EXTERNAL: Values = merged(
    BUILT,
    {
        "auth": {"existingSecret": "headrace-auth"},
        "database": {"existingSecret": "headrace-database"},
        "valkey": {"existingSecret": "headrace-valkey"},
        "gcs": {
            "existingSecret": "headrace-gcs",
            "address": "rediss://ray.example.internal:6379",
            "cidrs": ["10.0.0.0/16"],
        },
    },
)
DEV = merged(BUILT, file("dev"))

RELEASES: dict[str, Values] = {
    "external": EXTERNAL,
    "dev": DEV,
    "eks": merged(BUILT, file("eks"), TERRAFORM, {"ingress": {"host": "models.example.com"}}),
    "airgap": merged(BUILT, file("airgap")),
    "partner": merged(BUILT, file("partner")),
    "everything": merged(
        EXTERNAL,
        {
            "global": {"imageRegistry": "registry.example.com:5000", "imagePullSecrets": ["one", "two"]},
            "stripe": {
                "existingSecret": "headrace-stripe",
                "returnUrl": "https://console.example.com/billing",
                "cidrs": ["203.0.113.0/24"],
            },
            "gateway": {
                "workers": 4,
                "trustedProxies": ["10.0.0.0/16", "fd00::/8"],
                "podLabels": {"team": "models"},
                "podAnnotations": {"example.com/a": "b"},
                "scheduling": {
                    "nodeSelector": {"pool": "system"},
                    "tolerations": [{"key": "system", "operator": "Exists"}],
                    "affinity": {"podAntiAffinity": {}},
                    "priorityClassName": "high",
                },
            },
            "operator": {"namespaces": ["acme", "globex"]},
            "networkPolicy": {
                "gatewayFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
                "billingFrom": [{"podSelector": {"matchLabels": {"app": "console"}}}],
                "gatewayEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
                "billingEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
            },
            "engine": {
                "serviceAccount": {"annotations": {"example.com/role": "reader"}},
                "weightsStorageClass": "fast",
                "hostPaths": ["/srv/weights"],
                "hostnames": {"org_1": ["models.example.org"]},
                "arguments": ["--max-num-seqs"],
                "upgradeGateway": {"className": "istio", "url": "http://{gateway}-istio.{namespace}.svc"},
                "quotas": {"org_1": {"cpu": 0}},
                "sharedQuota": {"cpu": 0},
            },
            "cluster": {
                "prometheus": {"namespace": "monitoring", "labels": {"app": "prometheus"}},
                "gateway": {"name": "public", "namespace": "gateways"},
            },
            "ingress": {"enabled": True, "host": "models.example.com", "tlsSecretName": "models-tls"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
            "monitoring": {
                "podMonitors": {"enabled": True, "labels": {"release": "prometheus"}},
                "prometheusRule": {"enabled": True},
                "dashboards": {"enabled": True},
                "tracesEndpoint": "http://collector.monitoring:4318",
                "tracesShare": 0.1,
            },
            "tests": {"existingSecret": "key"},
        },
    ),
    "least": merged(
        EXTERNAL,
        {
            "operator": {"enabled": False},
            "migrations": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "modelDeployments": {"glm-tiny": None},
            "engine": {"serviceAccount": {"create": False}},
            "gateway": {"autoscaling": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
            "billing": {"autoscaling": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
        },
    ),
    "dev-secrets-from-a-store": merged(
        DEV,
        {
            "externalSecrets": {"enabled": True, "storeRef": {"name": "vault"}, "auth": {"key": "headrace"}},
            "monitoring": {"prometheusRule": {"enabled": True}},
            "tests": {"existingSecret": "key"},
        },
    ),
}
