"""Rules of how many replicas there are, and of how they are replaced."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headrace_platform.control.deployment import ModelDeployment, UpgradeStrategy
from headrace_platform.control.environment import Environment
from headrace_platform.control.scaling import ScalingMode
from headrace_platform.control.violation import Violation


def scaling_violations(deployment: ModelDeployment) -> Iterator[Violation]:
    path = "spec.scaling"
    scaling = deployment.spec.scaling
    if scaling.min_replicas > scaling.max_replicas:
        yield Violation("bounds_reversed", f"{path}.minReplicas", "use at most maxReplicas")
    if scaling.mode is ScalingMode.POLICY and scaling.replicas is not None:
        yield Violation(
            "replicas_ignored", f"{path}.replicas", "leave it out, or use the mode fixed or external"
        )
    if scaling.mode is ScalingMode.FIXED:
        if scaling.schedules:
            yield Violation("schedules_ignored", f"{path}.schedules", "use the mode policy or external")
        if scaling.replicas == 0:
            yield Violation(
                "replicas_none", f"{path}.replicas", "use 1 or more, or set suspend to give everything back"
            )
    if scaling.mode is not ScalingMode.POLICY and scaling.scale_to_zero_after_seconds is not None:
        yield Violation("zero_ignored", f"{path}.scaleToZeroAfterSeconds", "use the mode policy")
    if (
        scaling.mode is ScalingMode.EXTERNAL
        and scaling.replicas is not None
        and not scaling.min_replicas <= scaling.replicas <= scaling.max_replicas
    ):
        yield Violation("replicas_out_of_bounds", f"{path}.replicas", "use minReplicas to maxReplicas")
    if (
        scaling.mode is ScalingMode.POLICY
        and not scaling.min_replicas
        and scaling.scale_to_zero_after_seconds is None
    ):
        yield Violation(
            "zero_unbounded",
            f"{path}.minReplicas",
            "use 1 or more, or say with scaleToZeroAfterSeconds when the last one goes",
        )
    target, most = scaling.targets.ongoing_requests, scaling.targets.ongoing_requests_max
    if target is not None and most is not None and target > most:
        yield Violation(
            "target_unreachable", f"{path}.targets.ongoingRequests", "use at most ongoingRequestsMax"
        )
    for number, schedule in enumerate(scaling.schedules):
        where = f"{path}.schedules[{number}]"
        if schedule.min_replicas > schedule.max_replicas:
            yield Violation("bounds_reversed", f"{where}.minReplicas", "use at most maxReplicas")
        yield from _time_zone(schedule.window.time_zone, f"{where}.window.timeZone")


def upgrade_violations(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    path = "spec.upgrade"
    upgrade = deployment.spec.upgrade
    if upgrade.window is not None:
        yield from _time_zone(upgrade.window.time_zone, f"{path}.window.timeZone")
    if upgrade.strategy is not UpgradeStrategy.INCREMENTAL:
        return
    if upgrade.step_percent > upgrade.surge_percent:
        yield Violation("step_above_surge", f"{path}.stepPercent", "use at most surgePercent")
    if environment.upgrade_gateway is None:
        yield Violation(
            "upgrade_gateway_missing",
            f"{path}.strategy",
            "use NewCluster, or have the operator's setting `upgradeGateway` name a GatewayClass",
        )
    if deployment.spec.scaling.replicas_least < 2:
        yield Violation(
            "upgrade_of_one",
            f"{path}.strategy",
            "use NewCluster: with fewer than two replicas there are no shares to move",
        )


def _time_zone(name: str, path: str) -> Iterator[Violation]:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        yield Violation("time_zone_unknown", path, "use an IANA name, such as Europe/Berlin")
