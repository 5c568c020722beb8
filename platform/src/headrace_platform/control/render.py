"""From a `ModelDeployment` to the Kubernetes objects that serve it. Pure: the same input gives the same bytes."""

from headrace_platform.control import kuberay
from headrace_platform.control.clusters import clusters, shape
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.disruption import disruption_budget
from headrace_platform.control.environment import Environment
from headrace_platform.control.hostname import http_route
from headrace_platform.control.labels import Manifest
from headrace_platform.control.monitoring import latency_alerts, pod_monitor
from headrace_platform.control.network_policy import network_policies
from headrace_platform.control.ray_service import ray_service
from headrace_platform.control.weights import host_path_volume


def render(deployment: ModelDeployment, environment: Environment) -> tuple[Manifest, ...]:
    """What to apply, in this order; the gateway's route is another thing (`route.render_route`).

    To be asked only of a deployment in which `rules.violations` finds nothing. Objects with an owner reference go
    with the deployment; a PersistentVolume and an HTTPRoute, which are not in its namespace, have to be deleted.
    """
    of_replica = shape(deployment, environment)
    manifests: list[Manifest] = [
        # Before any pod, so that none is ever open.
        *network_policies(deployment, environment),
        *host_path_volume(deployment),
    ]
    for cluster in clusters(deployment, environment):
        service = ray_service(deployment, cluster, of_replica, environment)
        broken = kuberay.violations(service)
        assert not broken, f"KubeRay would refuse what was rendered: {broken}"
        manifests.append(service)
        manifests += _present(disruption_budget(deployment, cluster, of_replica))
    if environment.monitoring is not None:
        manifests.append(pod_monitor(deployment))
        manifests += _present(latency_alerts(deployment))
    manifests += _present(http_route(deployment, environment))
    return tuple(manifests)


def _present(manifest: Manifest | None) -> list[Manifest]:
    return [] if manifest is None else [manifest]
