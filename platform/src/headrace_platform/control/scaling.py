"""How many replicas a deployment has: a fixed number, what Serve's autoscaler decides, or what our own policy sets."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, structs

from headrace_platform.control.window import Window
from headrace_platform.control.words import Label

REPLICAS_MAX = 1000
Replicas = Annotated[int, Meta(ge=0, le=REPLICAS_MAX)]
ReplicasSome = Annotated[int, Meta(ge=1, le=REPLICAS_MAX)]
DelaySeconds = Annotated[int, Meta(ge=0, le=86400)]


class ScalingMode(StrEnum):
    FIXED = "fixed"  # `replicas`
    POLICY = "policy"  # Serve's autoscaler, on requests at once, between `minReplicas` and `maxReplicas`
    EXTERNAL = "external"  # whoever writes `replicas` through the scale subresource, between the bounds


class Targets(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Requests at once, of one replica but for the queue; what the model's placement makes usual where absent."""

    ongoing_requests: (
        Annotated[int, Meta(ge=1, le=10000, description="Asks for one more replica beyond it.")] | None
    ) = None
    ongoing_requests_max: (
        Annotated[
            int, Meta(ge=1, le=10000, description="That a replica takes; others wait or go to another.")
        ]
        | None
    ) = None
    queued_requests_max: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=100000,
                description="That wait at Ray Serve in front of full replicas; others get 503 at once. Where absent, few:"
                " those that the gateways let through beyond what the fewest replicas take, and 32.",
            ),
        ]
        | None
    ) = None


class Delays(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    upscale_seconds: Annotated[DelaySeconds, Meta(description="Demand must last so long.")] = 10
    downscale_seconds: Annotated[DelaySeconds, Meta(description="A lull must last so long.")] = 600


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Other bounds while its window is open; of several open ones the last in the list counts."""

    name: Label
    window: Window
    min_replicas: Replicas
    max_replicas: ReplicasSome


class Scaling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    mode: Annotated[
        ScalingMode,
        Meta(
            description="A number of replicas; what Serve's autoscaler decides on requests at once; or what the scale"
            " subresource is set to."
        ),
    ] = ScalingMode.FIXED
    replicas: Annotated[Replicas, Meta(description="With `fixed` and `external`.")] | None = None
    min_replicas: Annotated[Replicas, Meta(description="With `policy` and `external`.")] = 1
    max_replicas: Annotated[ReplicasSome, Meta(description="With `policy` and `external`.")] = 1
    targets: Targets = Targets()
    delays: Delays = Delays()
    scale_to_zero_after_seconds: (
        Annotated[
            int,
            Meta(
                ge=60,
                le=604800,
                description="Without a request, down to no replica; the next one waits for a start.",
            ),
        ]
        | None
    ) = None
    schedules: Annotated[tuple[Schedule, ...], Meta(max_length=16)] = ()

    @property
    def replicas_least(self) -> int:
        """What it is never below."""
        if self.mode is ScalingMode.FIXED:
            return self.replicas_fixed
        return 0 if self.scale_to_zero_after_seconds is not None else self.min_replicas

    @property
    def replicas_most(self) -> int:
        """What it may ever have, whatever the hour."""
        if self.mode is ScalingMode.FIXED:
            return self.replicas_fixed
        return max(self.max_replicas, *(schedule.max_replicas for schedule in self.schedules), 0)

    @property
    def replicas_fixed(self) -> int:
        """The number where there is no range: what was said, and within the bounds that hold when somebody else says it."""
        if self.mode is ScalingMode.EXTERNAL:
            wanted = self.min_replicas if self.replicas is None else self.replicas
            return min(max(wanted, self.min_replicas), self.max_replicas)
        return 1 if self.replicas is None else self.replicas

    def at(self, moment: datetime) -> "Scaling":
        """With the bounds that hold at a moment. What it may ever have stays the same: `replicas_most`."""
        for schedule in reversed(self.schedules):
            if schedule.window.contains(moment):
                # The bounds of other hours stand in a schedule's place, or a night of few replicas would take
                # whole clusters away.
                otherwise = structs.replace(
                    schedule, min_replicas=self.min_replicas, max_replicas=self.max_replicas
                )
                return structs.replace(
                    self,
                    min_replicas=schedule.min_replicas,
                    max_replicas=schedule.max_replicas,
                    schedules=(*self.schedules, otherwise),
                )
        return self
