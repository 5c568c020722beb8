"""From a placed model to the configuration that Ray Serve runs it by. Pure: a plain dict, ready for KubeRay's
`serveConfigV2`, and the same options for whoever starts Serve itself.

Nothing secret is in it: what only the process may know comes from the environment of its pod.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from headrace_platform.catalog.engine import engine_environment
from headrace_platform.catalog.models import find
from headrace_platform.catalog.placement import Placement, Sizes, place
from headrace_platform.catalog.profiles import Profile, find_profile
from headrace_platform.catalog.record import Format, ModelRecord

APPLICATION = "engine"
DEPLOYMENT = "vllm"
IMPORT_PATH = "headrace_platform.serving.application:build"

# Decided on the last seconds alone: a queue of prompts is felt at once.
METRICS_INTERVAL_SECONDS = 1
LOOK_BACK_SECONDS = 3

SHUTDOWN_WAIT_SECONDS = 0.5

# Of the requests that an engine works on together: how many ask for another replica, and how many it is handed, so
# that its scheduler always has the next one ready.
TARGET_SHARE = 0.5
ONGOING_SHARE = 2

USUAL_QUEUED = 32

Argument = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many replicas, and how many requests each; named as in the engine's settings."""

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing: float
    """Requests at once for which one replica is enough."""
    max_ongoing: int
    """Requests that a replica is handed at once."""
    max_queued: int = USUAL_QUEUED
    """Requests that wait in front of full replicas, or for a replacement; others get 503 at once. Few, as the gateways
    let requests wait in fair turns."""
    upscale_delay_seconds: float = 10
    downscale_delay_seconds: float = 300
    """Starting again costs a minute or many, so a lull is waited out."""
    drain_seconds: float = 15
    """Streams that run when a replica is told to stop may go on for so long."""
    surge_percent: int = 100
    """Replicas that an update starts beside the old ones before it stops those."""


def usual_scaling(placement: Placement, **chosen: Any) -> Scaling:
    """The scaling that follows from what the engine works on together, with `chosen` fields in its place."""
    usual = {
        "target_ongoing": max(1.0, placement.sequences_max * TARGET_SHARE),
        "max_ongoing": placement.sequences_max * ONGOING_SHARE,
    }
    return Scaling(**usual | chosen)


def serve_config(
    record: ModelRecord,
    profile: Profile,
    placement: Placement,
    scaling: Scaling,
    *,
    deployment: str,
    host: str = "0.0.0.0",  # noqa: S104 (a pod's network policy says who may connect)
    port: int = 8000,
    proxies: str = "EveryNode",
    more_arguments: Mapping[str, Argument] | None = None,
) -> dict[str, Any]:
    """What `serve deploy` and KubeRay take; `deployment` is what the gateway's table calls it.

    `more_arguments` are settings of the engine that do not follow from the catalogue.
    """
    return {
        "proxy_location": proxies,
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": APPLICATION,
                "import_path": IMPORT_PATH,
                "route_prefix": "/",
                "args": application_arguments(profile, placement, deployment=deployment)
                | dict(more_arguments or {}),
                "deployments": [
                    {"name": DEPLOYMENT, **deployment_options(record, profile, placement, scaling)}
                ],
            }
        ],
    }


def deployment_options(
    record: ModelRecord, profile: Profile, placement: Placement, scaling: Scaling
) -> dict[str, Any]:
    """What Serve is told of the deployment, in a configuration or through `options()` alike."""
    tuning = profile.engine
    return {
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "initial_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_ongoing,
            "upscale_delay_s": scaling.upscale_delay_seconds,
            "downscale_delay_s": scaling.downscale_delay_seconds,
            "metrics_interval_s": METRICS_INTERVAL_SECONDS,
            "look_back_period_s": LOOK_BACK_SECONDS,
        },
        "max_ongoing_requests": scaling.max_ongoing,
        "max_queued_requests": scaling.max_queued,
        "max_surge_percent": scaling.surge_percent,
        "health_check_period_s": tuning.health_check_period_seconds,
        "health_check_timeout_s": tuning.health_check_timeout_seconds,
        "graceful_shutdown_wait_loop_s": SHUTDOWN_WAIT_SECONDS,
        "graceful_shutdown_timeout_s": scaling.drain_seconds,
        **_resources(record, profile, placement),
    }


def application_arguments(profile: Profile, placement: Placement, *, deployment: str) -> dict[str, Argument]:
    """What the application's builder is given: flat, of strings and numbers; `placed` reads it.

    Nothing that scaling changes: to Serve other arguments are other code, for which it starts every replica anew.
    """
    return {
        "model": placement.model,
        "deployment": deployment,
        "profile": profile.id,
        "gpus_a_node": profile.gpus_a_node,
        "format": str(placement.format),
        "tensor": placement.tensor,
        "pipeline": placement.pipeline,
        "data": placement.data,
        "expert": placement.expert > 1,
        "context_tokens": placement.context_tokens,
    }


def placed(arguments: Mapping[str, Any]) -> tuple[ModelRecord, Profile, Placement]:
    """The model, the profile and the placement of an application's arguments.

    Raises `ModelUnknown`, `ProfileUnknown`, `DoesNotFit`.
    """
    record = find(arguments["model"])
    profile = structs.replace(find_profile(arguments["profile"]), gpus_a_node=int(arguments["gpus_a_node"]))
    placement = place(
        record,
        profile,
        stored=Format(arguments["format"]),
        sizes=Sizes(
            tensor=int(arguments["tensor"]),
            pipeline=int(arguments["pipeline"]),
            data=int(arguments["data"]),
            expert=bool(arguments["expert"]),
        ),
        context_tokens=int(arguments["context_tokens"]),
    )
    return record, profile, placement


def _resources(record: ModelRecord, profile: Profile, placement: Placement) -> dict[str, Any]:
    """What Ray sets aside for a replica.

    On one node the replica itself has all its GPUs, and vLLM's workers are its children. Over several nodes each
    worker is an actor in a bundle of its own, packed as close as there is room; the replica, which computes
    nothing on a GPU, shares the first bundle.
    """
    cpus = profile.engine.replica_cpus
    options: dict[str, Any] = {"num_cpus": cpus}
    environment = engine_environment(record, profile, placement)
    if environment:
        options["runtime_env"] = {"env_vars": environment}
    if placement.nodes == 1:
        if placement.gpus:
            options["num_gpus"] = placement.gpus
        return {"ray_actor_options": options}
    bundles: list[dict[str, float]] = [{"GPU": 1} for _ in range(placement.gpus)]
    bundles[0]["CPU"] = cpus
    return {
        "ray_actor_options": options | {"num_gpus": 0},
        "placement_group_bundles": bundles,
        "placement_group_strategy": "PACK",
    }
