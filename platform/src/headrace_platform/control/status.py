"""What the operator tells of a deployment."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from headrace_platform.control.words import Label


class ConditionType(StrEnum):
    ACCEPTED = "Accepted"  # the spec breaks no rule
    SOURCE_READY = "SourceReady"  # the weights are where they are said to be
    CAPACITY_AVAILABLE = "CapacityAvailable"  # quota and nodes suffice, for an upgrade too
    CLUSTER_READY = "ClusterReady"  # Ray's head and workers are up
    SERVE_READY = "ServeReady"  # the application is healthy
    ENDPOINT_READY = "EndpointReady"  # the model answered, and the gateway has its route
    UPGRADE_IN_PROGRESS = "UpgradeInProgress"
    DEGRADED = "Degraded"  # serves, with less than it should
    READY = "Ready"  # Accepted, ClusterReady, ServeReady and EndpointReady


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Struct, frozen=True, kw_only=True, rename="camel"):
    type: ConditionType
    status: ConditionStatus
    reason: Annotated[str, Meta(min_length=1, max_length=128, pattern="^[A-Za-z][A-Za-z0-9_]*$")]
    message: Annotated[str, Meta(max_length=8192)] = ""
    last_transition_time: Annotated[
        str,
        Meta(
            max_length=32,
            extra_json_schema={"format": "date-time"},
            description="Changes with `status` alone.",
        ),
    ]
    observed_generation: Annotated[int, Meta(ge=0)] = 0


class Grant(Struct, frozen=True, kw_only=True, rename="camel"):
    profile: Label
    accelerators: Annotated[int, Meta(ge=1)]


Grants = Annotated[tuple[Grant, ...], Meta(max_length=8)]


class Status(Struct, frozen=True, kw_only=True, rename="camel"):
    observed_generation: Annotated[int, Meta(ge=0)] = 0
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=16)] = ()
    replicas: Annotated[int, Meta(ge=0, description="Replicas there are, starting ones included.")] = 0
    ready_replicas: Annotated[int, Meta(ge=0)] = 0
    selector: Annotated[
        str, Meta(max_length=512, description="Of the worker pods, for the scale subresource.")
    ] = ""
    accelerators: Annotated[int, Meta(ge=0, description="Held now.")] = 0
    granted: Annotated[
        Grants,
        Meta(description="That it may take of its quota, with what it was last made of; upgrades included."),
    ] = ()
    claimed: Annotated[Grants, Meta(description="That it is about to be granted.")] = ()
    endpoint: Annotated[str, Meta(max_length=512, description="Where the gateway finds it.")] = ""
    spec_hash: Annotated[str, Meta(max_length=64, description="Of the manifests that were last applied.")] = (
        ""
    )
