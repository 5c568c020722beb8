"""What Serve runs in a cluster: the catalogue's configuration, with the deployment's own say on it."""

from dataclasses import replace
from typing import Any

from msgspec import structs

from headrace_platform.catalog import models
from headrace_platform.catalog.placement import Placement, Sizes, place
from headrace_platform.catalog.profiles import Profile, find_profile
from headrace_platform.catalog.serve import Scaling as ServeScaling
from headrace_platform.catalog.serve import serve_config as catalogue_config
from headrace_platform.catalog.serve import usual_scaling
from headrace_platform.control.clusters import Cluster, deployment_id
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment
from headrace_platform.control.routing import RoutingPolicy
from headrace_platform.control.scaling import Scaling, ScalingMode
from headrace_platform.control.weights import weights
from headrace_platform.serving.arguments import more_arguments

SESSION_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"


def serve_config(deployment: ModelDeployment, cluster: Cluster, environment: Environment) -> dict[str, Any]:
    spec = deployment.spec
    record = models.find(spec.model.id)
    profile = profile_of(deployment, environment)
    placement = placement_of(deployment, environment)
    prepared = weights(deployment, environment)
    config = catalogue_config(
        record,
        profile,
        placement,
        scaling_of(deployment, cluster, environment),
        deployment=deployment_id(deployment, cluster),
        more_arguments=more_arguments(
            records_url=environment.billing.records_url,
            weights_at=prepared.location if prepared else None,
            engine_arguments=spec.engine.args,
        ),
    )
    [application] = config["applications"]
    [options] = application["deployments"]
    if spec.scaling.mode is ScalingMode.POLICY:
        _from_zero(options["autoscaling_config"], spec.scaling)
    else:
        del options["autoscaling_config"]
        options["num_replicas"] = cluster.replicas_fixed
    if spec.routing.policy is RoutingPolicy.SESSION:
        options["request_router_config"] = {"request_router_class": SESSION_ROUTER}
    return config


def profile_of(deployment: ModelDeployment, environment: Environment) -> Profile:
    """The catalogue's, on this cluster's nodes. Raises `ProfileUnknown`."""
    here = environment.gpu_profiles[deployment.spec.accelerator.profile]
    return structs.replace(find_profile(here.engine), gpus_a_node=here.accelerators_per_node)


def placement_of(deployment: ModelDeployment, environment: Environment) -> Placement:
    """Raises `DoesNotFit`, `FormatMissing`, `ModelUnknown`, `ProfileUnknown`."""
    spec = deployment.spec
    parallelism = spec.parallelism
    return place(
        models.find(spec.model.id),
        profile_of(deployment, environment),
        stored=spec.model.format,
        sizes=Sizes(
            tensor=parallelism.tensor,
            pipeline=parallelism.pipeline,
            data=parallelism.data,
            expert=parallelism.expert,
        ),
    )


def scaling_of(deployment: ModelDeployment, cluster: Cluster, environment: Environment) -> ServeScaling:
    """Serve's queue holds what the gateways let through while replicas come, and the usual few beside."""
    spec = deployment.spec
    chosen = usual_scaling(
        placement_of(deployment, environment), **_chosen(spec.scaling, cluster, environment)
    )
    if spec.scaling.mode is not ScalingMode.POLICY or spec.scaling.targets.queued_requests_max is not None:
        return chosen
    to_come = cluster.replicas_most - cluster.replicas_least
    return replace(chosen, max_queued=chosen.max_queued + to_come * chosen.max_ongoing)


def slots(
    deployment: ModelDeployment, cluster: Cluster, environment: Environment, *, ready: int | None = None
) -> int:
    """Requests at once that its ready replicas take; those of as many as there may be where nobody has counted.

    One replica's always, for the first request is what brings it back from none. And never so few that Serve's
    autoscaler, which knows of no request that waits at a gateway, would see no need of another.
    """
    autoscaled = deployment.spec.scaling.mode is ScalingMode.POLICY
    replicas = max(1, cluster.replicas_most if autoscaled else cluster.replicas_fixed)
    scaling = scaling_of(deployment, cluster, environment)
    most = replicas * scaling.max_ongoing
    if ready is None:
        return most
    taken = max(1, ready) * scaling.max_ongoing
    if autoscaled:
        taken = max(taken, int(max(1, ready) * scaling.target_ongoing) + 1)
    return min(taken, most)


def _chosen(scaling: Scaling, cluster: Cluster, environment: Environment) -> dict[str, Any]:
    """What the catalogue is told of scaling; what the deployment left open it knows itself."""
    targets = {
        "target_ongoing": scaling.targets.ongoing_requests,
        "max_ongoing": scaling.targets.ongoing_requests_max,
        "max_queued": scaling.targets.queued_requests_max,
    }
    return {
        **{name: value for name, value in targets.items() if value is not None},
        "min_replicas": cluster.replicas_least,
        "max_replicas": max(1, cluster.replicas_most),
        "upscale_delay_seconds": scaling.delays.upscale_seconds,
        "downscale_delay_seconds": scaling.delays.downscale_seconds,
        "drain_seconds": environment.longest_stream_seconds,
    }


def _from_zero(autoscaling: dict[str, Any], scaling: Scaling) -> None:
    if scaling.scale_to_zero_after_seconds is not None:
        autoscaling["downscale_to_zero_delay_s"] = scaling.scale_to_zero_after_seconds
        # One to begin with, so that what can't start is known before somebody waits for it.
        autoscaling["initial_replicas"] = 1
