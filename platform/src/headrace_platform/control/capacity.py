"""How many accelerators a deployment may take at its most: what a quota is held against."""

from dataclasses import dataclass

from headrace_platform.control.clusters import shape
from headrace_platform.control.deployment import ModelDeployment, UpgradeStrategy
from headrace_platform.control.environment import Environment
from headrace_platform.control.status import Grant, Grants


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


def grants_wanted(deployment: ModelDeployment, environment: Environment) -> Grants:
    """What it has to be granted before anything is made of its spec."""
    accelerator = deployment.spec.accelerator
    if deployment.spec.suspend or accelerator.profile not in environment.gpu_profiles:
        return ()
    count = capacity_wanted(deployment, environment).accelerators
    return (Grant(profile=accelerator.profile, accelerators=count),) if count else ()


def together(*of: Grants) -> Grants:
    """The most of each profile: what is held by whoever may be in either state."""
    most: dict[str, int] = {}
    for grants in of:
        for grant in grants:
            most[grant.profile] = max(most.get(grant.profile, 0), grant.accelerators)
    return tuple(Grant(profile=profile, accelerators=most[profile]) for profile in sorted(most))
