"""How many accelerators a deployment may take at its most: what a quota is held against."""

from dataclasses import dataclass

from headrace_platform.control.clusters import shape
from headrace_platform.control.deployment import ModelDeployment, UpgradeStrategy
from headrace_platform.control.environment import Environment


@dataclass(frozen=True, slots=True)
class CapacityWanted:
    replicas: int
    hosts: int
    """Worker pods of a replica."""
    accelerators: int
    """In all, the upgrade's included."""
    surge: int
    """Of them, those that only an upgrade takes."""


def capacity_wanted(deployment: ModelDeployment, environment: Environment) -> CapacityWanted:
    """With every replica that it may ever have, in the middle of an upgrade."""
    spec = deployment.spec
    replicas = spec.scaling.replicas_most
    steady = replicas * spec.accelerator.count
    match spec.upgrade.strategy:
        case UpgradeStrategy.NEW_CLUSTER:
            surge = steady
        case UpgradeStrategy.INCREMENTAL:
            # Of whole replicas, rounded up.
            surge = -(-replicas * spec.upgrade.surge_percent // 100) * spec.accelerator.count
        case UpgradeStrategy.NONE:
            surge = 0
    return CapacityWanted(
        replicas=replicas,
        hosts=shape(deployment, environment).hosts,
        accelerators=steady + surge,
        surge=surge,
    )
