"""Rules of the accelerators that a deployment asks for: whether the model runs on them so, and whether it may have them."""

from collections.abc import Iterator, Mapping

from headrace_platform.catalog.models import ModelUnknown
from headrace_platform.catalog.placement import DoesNotFit
from headrace_platform.catalog.profiles import ProfileUnknown
from headrace_platform.catalog.record import FormatMissing
from headrace_platform.control.capacity import capacity_wanted
from headrace_platform.control.clusters import CLUSTERS_MAX, WORKERS_MAX, clusters_count
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment, GpuProfile
from headrace_platform.control.serve_application import placement_of
from headrace_platform.control.violation import Violation


def accelerator_violations(
    deployment: ModelDeployment, environment: Environment, held: Mapping[str, int]
) -> Iterator[Violation]:
    """One after another: a question of quota makes sense for a replica that can be built."""
    profile = environment.gpu_profiles.get(deployment.spec.accelerator.profile)
    if profile is None:
        known = ", ".join(sorted(environment.gpu_profiles))
        yield Violation("profile_unknown", "spec.accelerator.profile", f"use one of: {known}")
        return
    undividable = list(_division(deployment, profile))
    yield from undividable
    if not undividable:
        yield from _placement(deployment, environment)
        yield from _size(deployment, environment)
        yield from _quota(deployment, environment, held)


def _division(deployment: ModelDeployment, profile: GpuProfile) -> Iterator[Violation]:
    spec = deployment.spec
    count, product = spec.accelerator.count, spec.parallelism.accelerators
    if product != max(1, count):
        yield Violation(
            "parallelism_mismatch",
            "spec.parallelism",
            f"tensor x pipeline x data is {product}, and accelerator.count is {count}: make them the same",
        )
    if profile.accelerators_per_node == 0:
        if count:
            yield Violation(
                "accelerator_count",
                "spec.accelerator.count",
                f"use 0: nodes of the profile {spec.accelerator.profile} have no accelerators",
            )
        return
    per_node = profile.accelerators_per_node
    if count == 0:
        yield Violation(
            "accelerator_count",
            "spec.accelerator.count",
            f"use 1 or more, or a profile without accelerators: {spec.accelerator.profile} has {per_node} a node",
        )
    if count > per_node and count % per_node:
        yield Violation(
            "accelerator_count",
            "spec.accelerator.count",
            f"use a multiple of {per_node}: a replica of several nodes takes them whole",
        )
    if spec.parallelism.tensor > per_node:
        yield Violation(
            "tensor_across_nodes",
            "spec.parallelism.tensor",
            f"use at most {per_node}, and pipeline for more: a tensor group stays on one node",
        )
    if -(-count // per_node) > WORKERS_MAX:
        yield Violation(
            "replica_too_large", "spec.accelerator.count", f"a Ray cluster has at most {WORKERS_MAX} workers"
        )


def _placement(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    """Whether the model runs like that, by the catalogue's arithmetic."""
    try:
        placement_of(deployment, environment)
    except ModelUnknown:
        return  # said already
    except ProfileUnknown as unknown:
        yield Violation(
            "profile_unreadable",
            "spec.accelerator.profile",
            f"the operator's profile is of a kind that the catalogue does not have: {unknown}",
        )
    except FormatMissing as missing:
        yield Violation("format_missing", "spec.model.format", str(missing))
    except DoesNotFit as refusal:
        yield Violation("does_not_fit", "spec.parallelism", str(refusal))


def _size(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    wanted = capacity_wanted(deployment, environment)
    if clusters_count(wanted.replicas, wanted.hosts) > CLUSTERS_MAX:
        yield Violation(
            "deployment_too_large",
            "spec.scaling.maxReplicas",
            f"use fewer: {CLUSTERS_MAX} Ray clusters of {WORKERS_MAX} workers are the most",
        )


def _quota(
    deployment: ModelDeployment, environment: Environment, held: Mapping[str, int]
) -> Iterator[Violation]:
    tenant = deployment.spec.tenant_ref
    profile = deployment.spec.accelerator.profile
    wanted = capacity_wanted(deployment, environment)
    if deployment.spec.suspend or not wanted.accelerators:
        return
    if tenant is not None and tenant.org not in environment.quotas:
        yield Violation(
            "quota_missing",
            "spec.tenantRef.org",
            f"the operator's setting `quotas` has nothing for {tenant.org}",
        )
        return
    quota = environment.quotas[tenant.org] if tenant is not None else environment.shared_quota
    allowed, others = quota.get(profile, 0), held.get(profile, 0)
    if wanted.accelerators + others > allowed:
        yield Violation(
            "quota_exceeded",
            "spec.scaling",
            f"it may take {wanted.accelerators} of {profile}, of which {wanted.surge} while it is upgraded, "
            f"beside {others} of other deployments; {allowed} are allowed: use fewer replicas, or the upgrade "
            "strategy Incremental with a small surgePercent",
        )
