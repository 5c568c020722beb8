"""How a deployment is cut into Ray clusters, and what each of them is called.

One cluster takes some fifty workers: beyond that Ray's autoscaler asks for pods again and again and never gets
them (kuberay#4206, ray#57624). The gateway balances over the clusters, for each is a line in its table.
"""

from dataclasses import dataclass

from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment

WORKERS_MAX = 50
CLUSTERS_MAX = 99


@dataclass(frozen=True, slots=True)
class Shape:
    """The pods of one replica."""

    hosts: int
    """Worker pods."""
    accelerators: int
    """Of each pod."""


@dataclass(frozen=True, slots=True)
class Cluster:
    name: str
    """Also the RayService's."""
    replicas_least: int
    replicas_most: int
    replicas_fixed: int


def shape(deployment: ModelDeployment, environment: Environment) -> Shape:
    """The deployment has broken no rule, so its profile is there and its count divides."""
    count = deployment.spec.accelerator.count
    per_node = environment.gpu_profiles[deployment.spec.accelerator.profile].accelerators_per_node
    if count == 0 or count <= per_node:
        return Shape(hosts=1, accelerators=count)
    hosts = -(-count // per_node)
    return Shape(hosts=hosts, accelerators=-(-count // hosts))


def clusters_count(replicas_most: int, hosts: int) -> int:
    replicas_per_cluster = max(1, WORKERS_MAX // hosts)
    return max(1, -(-replicas_most // replicas_per_cluster))


def clusters(deployment: ModelDeployment, environment: Environment) -> tuple[Cluster, ...]:
    """Replicas are shared out evenly; the first clusters have the odd ones.

    The number of the cluster is always in its name, so that `chat` has no cluster that is called as another
    deployment's, and a second cluster renames no first one.
    """
    scaling = deployment.spec.scaling
    count = clusters_count(scaling.replicas_most, shape(deployment, environment).hosts)
    return tuple(
        Cluster(
            name=f"{deployment.metadata.name}-c{number + 1}",
            replicas_least=_share(scaling.replicas_least, count, number),
            replicas_most=_share(scaling.replicas_most, count, number),
            replicas_fixed=_share(scaling.replicas_fixed, count, number),
        )
        for number in range(count)
    )


def deployment_id(deployment: ModelDeployment, cluster: Cluster) -> str:
    """One name in the gateway's events and the engine's records."""
    return f"{deployment.metadata.namespace}/{cluster.name}"


def upgrade_gateway_name(cluster: Cluster) -> str:
    """What KubeRay calls the Gateway that it makes for an incremental upgrade."""
    return f"{cluster.name}-gateway"


def shares(whole: int, parts: int) -> list[int]:
    """As even as they can be; the first ones have the odd ones."""
    return [_share(whole, parts, number) for number in range(parts)]


def _share(whole: int, parts: int, number: int) -> int:
    return whole // parts + (number < whole % parts)
