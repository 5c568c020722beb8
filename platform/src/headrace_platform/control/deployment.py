"""`ModelDeployment` (headrace.dev/v1alpha1): one model, served for one organisation or for all, on accelerators.

Decoded strictly from the Kubernetes object: a field that nobody knows, or a value out of its bounds, is an error
that names its path. Rules that need more than one field are in `rules`. Keys, prices and limits are no part of it.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headrace_platform.control.model_source import Model
from headrace_platform.control.routing import Lifecycle, Routing
from headrace_platform.control.scaling import Scaling
from headrace_platform.control.status import Status
from headrace_platform.control.window import Window
from headrace_platform.control.words import (
    Digest,
    Host,
    Identifier,
    Label,
    LabelKey,
    LabelValue,
    ObjectName,
    Repository,
)

GROUP = "headrace.dev"
VERSION = "v1alpha1"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"

DEPLOYMENT_NAME_CHARACTERS_MAX = 40
"""KubeRay allows a RayService 47, and ours append which cluster of the deployment it is."""


class TenantRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    org: Identifier


class Image(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Always by digest: a tag may be something else tomorrow, and on half of the nodes."""

    repository: Repository
    digest: Digest


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    image: Annotated[Image | None, Meta(description="The engine's image; the operator's where absent.")] = (
        None
    )
    ray_version: Annotated[
        str,
        Meta(max_length=32, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$", description="Of Ray in that image."),
    ] = "2.60.0"
    args: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...],
        Meta(
            max_length=64, description="Further arguments of `vllm serve`, after those of the model's record."
        ),
    ] = ()


class Accelerator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    profile: Annotated[Label, Meta(description="One of the operator's GPU profiles.")]
    count: Annotated[int, Meta(ge=0, le=128, description="Accelerators of one replica.")]


class Parallelism(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How one replica's accelerators share the model: the product of tensor, pipeline and data is their number."""

    tensor: Annotated[int, Meta(ge=1, le=64)] = 1
    pipeline: Annotated[int, Meta(ge=1, le=16)] = 1
    data: Annotated[int, Meta(ge=1, le=64)] = 1
    expert: Annotated[bool, Meta(description="Experts are spread over the accelerators instead of cut.")] = (
        False
    )

    @property
    def accelerators(self) -> int:
        return self.tensor * self.pipeline * self.data


class Slo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What was promised: 95 of 100 requests are to be faster. Where Prometheus is, it alerts when they aren't."""

    ttft_p95_milliseconds: (
        Annotated[int, Meta(ge=1, le=600000, description="Until the first token.")] | None
    ) = None
    itl_p95_milliseconds: (
        Annotated[int, Meta(ge=1, le=60000, description="From a token to the next.")] | None
    ) = None


class UpgradeStrategy(StrEnum):
    NEW_CLUSTER = "NewCluster"  # a second cluster beside the first, then the switch: twice the accelerators
    INCREMENTAL = "Incremental"  # share by share: `surgePercent` more accelerators
    NONE = "None"  # a changed pod template waits for the object to be made anew


Percent = Annotated[int, Meta(ge=1, le=100)]


class Upgrade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    strategy: Annotated[
        UpgradeStrategy,
        Meta(
            description="A second cluster, then the switch, for twice the accelerators; share by share, for two replicas"
            " or more; or a changed pod template waits until the object is made anew."
        ),
    ] = UpgradeStrategy.NEW_CLUSTER
    surge_percent: Annotated[
        Percent, Meta(description="With `Incremental`: capacity beyond the running one.")
    ] = 100
    step_percent: Annotated[Percent, Meta(description="With `Incremental`: traffic moved at a time.")] = 25
    interval_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="With `Incremental`: between steps.")
    ] = 60
    window: Annotated[
        Window | None, Meta(description="New clusters begin within it alone; any time where absent.")
    ] = None


class Exposure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    hostname: Annotated[Host, Meta(description="A name of its own that leads to the gateway.")] | None = None


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    key: LabelKey
    operator: TolerationOperator = TolerationOperator.EXISTS
    value: LabelValue | None = None
    effect: TaintEffect | None = None


# A schema can't bound the keys of a map; what they may be is a rule.
NodeSelector = Annotated[dict[str, LabelValue], Meta(max_length=16)]
Tolerations = Annotated[tuple[Toleration, ...], Meta(max_length=16)]


class Scheduling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Beside what the accelerator profile says of nodes."""

    node_selector: NodeSelector = {}
    tolerations: Tolerations = ()
    priority_class_name: ObjectName | None = None
    queue: Annotated[Label, Meta(description="Kueue's local queue.")] | None = None
    spread_zones: Annotated[
        bool, Meta(description="Replicas are spread over zones where that is possible.")
    ] = True


class DeletionPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    drain_seconds: Annotated[
        int, Meta(ge=0, le=86400, description="Running requests have so long after the route is gone.")
    ] = 600


class Spec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    tenant_ref: Annotated[
        TenantRef | None, Meta(description="Who alone may use it; everybody where absent.")
    ] = None
    model: Model
    engine: Engine = Engine()
    accelerator: Accelerator
    parallelism: Parallelism = Parallelism()
    scaling: Scaling = Scaling()
    slo: Slo = Slo()
    routing: Routing = Routing()
    lifecycle: Annotated[Lifecycle | None, Meta(description="Its end, as far as it is known.")] = None
    upgrade: Upgrade = Upgrade()
    exposure: Exposure = Exposure()
    scheduling: Scheduling = Scheduling()
    suspend: Annotated[bool, Meta(description="Gives the accelerators back and keeps the object.")] = False
    deletion_policy: DeletionPolicy = DeletionPolicy()


class Metadata(Struct, frozen=True, kw_only=True, rename="camel"):
    """What we read of Kubernetes' own; the rest of it is left alone."""

    name: str
    namespace: str = "default"
    uid: str = ""
    """Empty before the object is in a cluster: nothing can be owned by it then."""
    generation: int = 0


class ModelDeployment(Struct, frozen=True, kw_only=True, rename="camel"):
    api_version: Literal["headrace.dev/v1alpha1"]
    kind: Literal["ModelDeployment"]
    metadata: Metadata
    spec: Spec
    status: Status = Status()


class DeploymentUnreadable(ValueError):
    """The object is no `ModelDeployment`; the message names the field's path."""

    code = "deployment_unreadable"


def decode(body: dict[str, Any]) -> ModelDeployment:
    """Raises `DeploymentUnreadable`."""
    try:
        return msgspec.convert(body, ModelDeployment)
    except msgspec.ValidationError as error:
        raise DeploymentUnreadable(str(error)) from error
