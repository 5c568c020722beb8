"""A name of a deployment's own, which leads to the gateway as every other one does: keys and limits stay in front."""

from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment
from headrace_platform.control.labels import NAMESPACE_LABEL, Manifest, labels


def http_route(deployment: ModelDeployment, environment: Environment) -> Manifest | None:
    """In the gateway's namespace, beside the Service that it leads to; None without a hostname."""
    hostname = deployment.spec.exposure.hostname
    gateway = environment.gateway
    if hostname is None:
        return None
    assert gateway.parent_name is not None, "a hostname without a Gateway was let through by the rules"
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway.parent_name}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": f"{deployment.metadata.namespace}.{deployment.metadata.name}",
            "namespace": gateway.pods.namespace,
            "labels": {**labels(deployment, "route"), NAMESPACE_LABEL: deployment.metadata.namespace},
        },
        "spec": {
            "parentRefs": [
                {**parent, "namespace": gateway.parent_namespace} if gateway.parent_namespace else parent
            ],
            "hostnames": [hostname],
            "rules": [{"backendRefs": [{"name": gateway.service_name, "port": gateway.service_port}]}],
        },
    }
