"""What the operator is told of the cluster that it works in; the chart gives it, and no secret is in it.

Everything here is the cluster owner's to say, not a tenant's: which nodes have which accelerators, whom Ray's pods
may talk to, which folders of a node may be read, how much a tenant may hold.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from headrace_platform.control.deployment import Image, NodeSelector, Tolerations
from headrace_platform.control.words import (
    Host,
    Identifier,
    Label,
    LabelKey,
    LabelValue,
    ObjectName,
    Path,
)

Gib = Annotated[int, Meta(ge=1, le=65536)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Cidr = Annotated[str, Meta(min_length=3, max_length=64, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
Url = Annotated[str, Meta(max_length=1024, pattern=r"^https?://[^\s\"'\\]+$")]
Labels = Annotated[dict[LabelKey, LabelValue], Meta(max_length=16)]


class SecretKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One entry of a Secret that is there already, in the deployment's namespace."""

    name: ObjectName
    key: Annotated[str, Meta(min_length=1, max_length=253, pattern="^[-A-Za-z0-9._]+$")]


class Pods(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Some pods of the cluster, as a NetworkPolicy names them."""

    namespace: Label
    labels: Labels = {}


class Destination(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Where Ray's pods may connect to: pods of the cluster, or addresses outside."""

    port: Port
    pods: Pods | None = None
    cidrs: Annotated[tuple[Cidr, ...], Meta(max_length=64)] = ()

    def __post_init__(self) -> None:
        if self.pods is None and not self.cidrs:
            # To Kubernetes a rule without a peer is one that allows every peer.
            raise ValueError("a destination is `pods` or `cidrs`; this one leads nowhere")


class GpuProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One kind of node, and what of it goes with one accelerator."""

    engine: Annotated[Label, Meta(description="The catalogue's profile, from which vLLM's arguments follow.")]
    resource_name: (
        Annotated[LabelKey, Meta(description="What a pod asks for; none on a node without.")] | None
    ) = None
    accelerators_per_node: Annotated[int, Meta(ge=0, le=64)]
    node_selector: NodeSelector = {}
    tolerations: Tolerations = ()
    runtime_class_name: ObjectName | None = None
    cpus_per_accelerator: Annotated[int, Meta(ge=1, le=256)] = 8
    memory_gib_per_accelerator: Gib = 128
    shared_memory_gib: Annotated[Gib, Meta(description="Of a worker's /dev/shm; inside its memory.")] = 16


class Gateway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pods: Pods
    routes_config_map: Annotated[
        ObjectName, Meta(description="In the gateway's namespace; an entry a deployment.")
    ]
    service_name: Label
    service_port: Port = 80
    parent_name: (
        Annotated[ObjectName, Meta(description="The Gateway API's Gateway, for hostnames.")] | None
    ) = None
    parent_namespace: Label | None = None


class GcsValkey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Where Ray's heads keep their state: a Valkey of its own, one shard, that evicts nothing."""

    address: Annotated[str, Meta(max_length=512, pattern="^rediss?://[-A-Za-z0-9.]+:[0-9]{1,5}$")]
    password: SecretKey
    destination: Destination


class Billing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    records_url: Annotated[Url, Meta(description="`…/internal/v1/engine-records`.")]
    ingest_token: SecretKey
    destination: Destination


class UpgradeGateway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The Gateway API's implementation that shares traffic out between two clusters of an incremental upgrade."""

    class_name: ObjectName
    url: Annotated[
        Url,
        Meta(
            description="Of the service behind KubeRay's Gateway, with {gateway} and {namespace},"
            " as `http://{gateway}-istio.{namespace}.svc.cluster.local`."
        ),
    ]


class Head(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Ray's head and Serve's controller, on a node without accelerators."""

    cpus: Annotated[int, Meta(ge=1, le=64)] = 4
    # Samples have 4 to 8; the global store grows with replicas and its death takes the controller along.
    memory_gib: Gib = 16
    node_selector: NodeSelector = {}
    tolerations: Tolerations = ()
    priority_class_name: ObjectName | None = None


class Environment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    engine_image: Image
    registry: Annotated[Host | None, Meta(description="Takes the place of every image's own registry.")] = (
        None
    )
    pull_secrets: Annotated[tuple[ObjectName, ...], Meta(max_length=8)] = ()
    service_account_name: Annotated[
        ObjectName | None,
        Meta(description="Of workers, in the deployment's namespace: what an object store knows them by."),
    ] = None
    gpu_profiles: Annotated[dict[Label, GpuProfile], Meta(min_length=1, max_length=64)]
    head: Head = Head()
    gateway: Gateway
    kuberay: Pods
    operator: Pods
    monitoring: Annotated[Pods | None, Meta(description="Prometheus; no ServiceMonitor where absent.")] = None
    dns: Pods = Pods(namespace="kube-system", labels={"k8s-app": "kube-dns"})
    api_server: Annotated[Destination, Meta(description="Ray's autoscaler asks it for pods.")]
    weights: Annotated[
        tuple[Destination, ...],
        Meta(max_length=16, description="Object stores and hubs that weights come from."),
    ] = ()
    weights_storage_class: Annotated[
        ObjectName | None,
        Meta(description="Of the volumes that weights are fetched into; the node's disk where absent."),
    ] = None
    host_paths: Annotated[
        tuple[Path, ...],
        Meta(max_length=16, description="Folders of nodes that weights may be in; none by default."),
    ] = ()
    hostnames: Annotated[
        dict[Identifier, Annotated[tuple[Host, ...], Meta(max_length=64)]],
        Meta(description="Names that an organisation's deployments may have; none by default."),
    ] = {}
    engine_arguments: Annotated[
        tuple[Annotated[str, Meta(max_length=128, pattern="^--[a-z0-9-]+$")], ...],
        Meta(max_length=64, description="Of vLLM, beside those that any deployment may give."),
    ] = ()
    gcs: GcsValkey
    billing: Billing
    upgrade_gateway: UpgradeGateway | None = None
    cluster_domain: Host = "cluster.local"
    longest_stream_seconds: Annotated[
        int,
        Meta(ge=30, le=86400, description="The gateway's bound of a request; a worker's pod outlives it."),
    ] = 3600
    quotas: Annotated[
        dict[Identifier, dict[Label, Annotated[int, Meta(ge=0)]]],
        Meta(description="Accelerators by profile that an organisation may hold, upgrades included."),
    ] = {}
    shared_quota: Annotated[
        dict[Label, Annotated[int, Meta(ge=0)]],
        Meta(description="Of the deployments that belong to no organisation."),
    ] = {}


class EnvironmentUnreadable(ValueError):
    """The operator's settings are wrong; the message names the field's path."""

    code = "environment_unreadable"


def decode_environment(body: object) -> Environment:
    """Raises `EnvironmentUnreadable`."""
    try:
        return msgspec.convert(body, Environment)
    except msgspec.ValidationError as error:
        raise EnvironmentUnreadable(str(error)) from error
