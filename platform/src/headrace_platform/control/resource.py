"""The kinds that the operator reads and writes, and where the API server has them.

A table and no discovery: it is also what the operator's role must allow, and a kind that is missing here is one
that the role would not allow either.
"""

from dataclasses import dataclass

from headrace_platform.control.labels import Manifest


@dataclass(frozen=True, slots=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of an object, or without a name of their collection, or without a namespace of all namespaces'."""
        root = f"/apis/{self.group}" if self.group else "/api"
        parts = [root, self.version]
        if namespace and self.is_namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        return "/".join([*parts, *(part for part in (name, subresource) if part)])


DEPLOYMENTS = Resource("headrace.dev", "v1alpha1", "modeldeployments", "ModelDeployment")
RAY_SERVICES = Resource("ray.io", "v1", "rayservices", "RayService")
PODS = Resource("", "v1", "pods", "Pod")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
EVENTS = Resource("", "v1", "events", "Event")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", is_namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_MONITORS = Resource("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor")
PROMETHEUS_RULES = Resource("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule")
HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", is_namespaced=False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")

RENDERED = (
    RAY_SERVICES,
    BUDGETS,
    NETWORK_POLICIES,
    POD_MONITORS,
    PROMETHEUS_RULES,
    HTTP_ROUTES,
    VOLUMES,
    CLAIMS,
)
"""What a deployment is rendered into."""


def resource_of(manifest: Manifest) -> Resource:
    """Of a rendered object."""
    for resource in RENDERED:
        if (resource.api_version, resource.kind) == (manifest["apiVersion"], manifest["kind"]):
            return resource
    raise AssertionError(
        f"a {manifest['kind']} of {manifest['apiVersion']} was rendered; the operator knows none"
    )
