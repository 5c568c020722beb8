"""Rules of what the gateways are told of a deployment."""

from collections.abc import Iterator

from headrace_platform.control.clusters import clusters
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment
from headrace_platform.control.violation import Violation


def routing_violations(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    routing = deployment.spec.routing
    if routing.overflow and deployment.spec.tenant_ref is None:
        yield Violation(
            "overflow_shared",
            "spec.routing.overflow",
            "leave it out: what is nobody's own can't go on to the deployments of all",
        )
    if routing.weight and deployment.spec.accelerator.profile in environment.gpu_profiles:
        parts = len(clusters(deployment, environment))
        if routing.weight < parts:
            # Else a cluster would have none of it, and stand idle.
            yield Violation(
                "weight_too_small",
                "spec.routing.weight",
                f"use 0, or {parts} or more: its {parts} clusters divide it. Multiply the others' weights likewise",
            )


def lifecycle_violations(deployment: ModelDeployment) -> Iterator[Violation]:
    lifecycle = deployment.spec.lifecycle
    if lifecycle is None or lifecycle.deprecated_at is None or lifecycle.sunset_at is None:
        return
    if lifecycle.sunset_at < lifecycle.deprecated_at:
        yield Violation(
            "sunset_before_deprecation",
            "spec.lifecycle.sunsetAt",
            "use a time that is not before deprecatedAt",
        )
