"""What is wrong with a deployment although its fields are well formed: every rule that needs more than one of them.

Pure and total: any `ModelDeployment` that could be decoded gives a list, and one with an empty list can be rendered.
The operator tells the list in the condition `Accepted`, the command `headrace render` on its error output.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headrace_platform.catalog import models
from headrace_platform.catalog.models import ModelUnknown
from headrace_platform.catalog.placement import DoesNotFit
from headrace_platform.catalog.profiles import ProfileUnknown
from headrace_platform.catalog.record import FormatMissing
from headrace_platform.control.capacity import CapacityWanted, capacity_wanted
from headrace_platform.control.clusters import CLUSTERS_MAX, WORKERS_MAX, clusters_count
from headrace_platform.control.deployment import (
    DEPLOYMENT_NAME_CHARACTERS_MAX,
    ModelDeployment,
    TolerationOperator,
    UpgradeStrategy,
)
from headrace_platform.control.engine_arguments import forbidden
from headrace_platform.control.environment import Environment, GpuProfile
from headrace_platform.control.scaling import ScalingMode
from headrace_platform.control.serve_application import placement_of
from headrace_platform.control.violation import Violation

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

LABEL_KEY = re.compile(
    r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?"
)

RAY_VERSION_MIN = (2, 52, 0)
"""Of Ray's tokens, without which whoever reaches a cluster can run code in it."""


def violations(
    deployment: ModelDeployment, environment: Environment, held: Mapping[str, int] | None = None
) -> list[Violation]:
    """Everything that is wrong, in the order of the spec.

    `held` is what the tenant's other deployments may take of each profile's accelerators.
    """
    found = [
        *_metadata(deployment),
        *_model(deployment),
        *_source(deployment, environment),
        *_engine(deployment, environment),
        *_scaling(deployment),
        *_upgrade(deployment, environment),
        *_exposure(deployment, environment),
        *_scheduling(deployment),
    ]
    profile = environment.gpu_profiles.get(deployment.spec.accelerator.profile)
    if profile is None:
        known = ", ".join(sorted(environment.gpu_profiles))
        found.append(Violation("profile_unknown", "spec.accelerator.profile", f"use one of: {known}"))
        return found
    divided = list(_accelerators(deployment, profile))
    found += divided
    if not divided:
        found += _placement(deployment, environment)
        found += _size(deployment, environment)
        found += _quota(deployment, environment, held or {})
    return found


def _metadata(deployment: ModelDeployment) -> Iterator[Violation]:
    name = deployment.metadata.name
    if len(name) > DEPLOYMENT_NAME_CHARACTERS_MAX:
        yield Violation(
            "name_too_long",
            "metadata.name",
            f"use at most {DEPLOYMENT_NAME_CHARACTERS_MAX} characters: Ray's clusters add theirs",
        )
    if not NAME.fullmatch(name):
        yield Violation(
            "name_malformed", "metadata.name", "use lower-case letters, digits and dashes, a letter first"
        )
    if len(deployment.metadata.namespace) > 63 or not re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", deployment.metadata.namespace
    ):
        yield Violation("namespace_malformed", "metadata.namespace", "use a namespace's name")


def _model(deployment: ModelDeployment) -> Iterator[Violation]:
    model = deployment.spec.model
    try:
        record = models.find(model.id)
    except ModelUnknown:
        near = ", ".join(models.near(model.id)) or ", ".join(each.id for each in models.MODELS)
        yield Violation("model_unknown", "spec.model.id", f"the catalogue has {near}")
        return
    if model.source is None and all(weights.folder is None for weights in record.weights):
        yield Violation(
            "source_missing",
            "spec.model.source",
            f"say where the weights of {record.id} come from: the engine's image has none",
        )
    taken = {name for other in models.MODELS if other.id != record.id for name in (other.id, *other.aliases)}
    for number, name in enumerate(model.served_names):
        if name in taken:
            yield Violation(
                "served_name_taken",
                f"spec.model.servedNames[{number}]",
                f"{name} is another model's name in the catalogue: use one of your own",
            )


def _source(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    path = "spec.model.source"
    source = deployment.spec.model.source
    if source is None:
        return
    kinds = ("s3", "pvc", "oci", "hf", "hostPath")
    given = [
        kind
        for kind, value in zip(
            kinds, (source.s3, source.pvc, source.oci, source.hf, source.host_path), strict=True
        )
        if value is not None
    ]
    if len(given) != 1:
        yield Violation("source_ambiguous", path, f"give exactly one of {', '.join(kinds)}")
    if source.sha256 is None and source.oci is None:
        yield Violation(
            "source_unproven",
            f"{path}.sha256",
            "give the checksum that `python -m headrace_platform.serving.weights checksum FOLDER` prints",
        )
    if source.host_path is not None:
        yield from _host_path(source.host_path.path, environment)
    for kind, inner in (("pvc", source.pvc), ("oci", source.oci)):
        if inner is not None and inner.path is not None and ".." in PurePosixPath(inner.path).parts:
            yield Violation("source_path", f"{path}.{kind}.path", "name a folder inside, without `..`")
    if (source.s3 or source.hf) and not environment.weights:
        yield Violation(
            "source_unreachable", path, "the operator's setting `weights` lets no pod out to fetch any"
        )


def _host_path(path: str, environment: Environment) -> Iterator[Violation]:
    folder = PurePosixPath(path)
    allowed = [PurePosixPath(root) for root in environment.host_paths]
    if ".." in folder.parts or not any(folder.is_relative_to(root) for root in allowed):
        below = ", ".join(map(str, allowed)) or "none"
        yield Violation(
            "host_path_forbidden",
            "spec.model.source.hostPath.path",
            f"use a folder below one that the operator allows: {below}",
        )


def _engine(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    engine = deployment.spec.engine
    if tuple(map(int, engine.ray_version.split("."))) < RAY_VERSION_MIN:
        yield Violation(
            "ray_too_old", "spec.engine.rayVersion", "use Ray 2.52.0 or later: older ones know no tokens"
        )
    for number, argument in enumerate(engine.args):
        name = forbidden(argument, environment.engine_arguments)
        if name is not None:
            yield Violation(
                "engine_argument_forbidden",
                f"spec.engine.args[{number}]",
                f"leave {name} out: it follows from other fields, or the operator's setting `engineArguments` has to "
                "allow it",
            )


def _scaling(deployment: ModelDeployment) -> Iterator[Violation]:
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


def _upgrade(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
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


def _exposure(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    path = "spec.exposure.hostname"
    hostname = deployment.spec.exposure.hostname
    if hostname is None:
        return
    if environment.gateway.parent_name is None:
        yield Violation(
            "hostname_unattached",
            path,
            "leave it out, or have the operator's setting `gateway.parentName` name a Gateway",
        )
    tenant = deployment.spec.tenant_ref
    allowed = environment.hostnames.get(tenant.org, ()) if tenant is not None else ()
    if hostname not in allowed:
        # Else one tenant would take another's name, or the gateway's own.
        yield Violation(
            "hostname_forbidden",
            path,
            f"use one that the operator's setting `hostnames` gives the organisation: {', '.join(allowed) or 'none'}",
        )


def _scheduling(deployment: ModelDeployment) -> Iterator[Violation]:
    for key in deployment.spec.scheduling.node_selector:
        if not LABEL_KEY.fullmatch(key):
            yield Violation(
                "node_selector_malformed", "spec.scheduling.nodeSelector", f"{key!r} is no label's name"
            )
    for number, toleration in enumerate(deployment.spec.scheduling.tolerations):
        if (toleration.operator is TolerationOperator.EXISTS) == (toleration.value is not None):
            yield Violation(
                "toleration_malformed",
                f"spec.scheduling.tolerations[{number}].value",
                "goes with the operator Equal, and with that alone",
            )


def _accelerators(deployment: ModelDeployment, profile: GpuProfile) -> Iterator[Violation]:
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
    wanted: CapacityWanted = capacity_wanted(deployment, environment)
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


def _time_zone(name: str, path: str) -> Iterator[Violation]:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        yield Violation("time_zone_unknown", path, "use an IANA name, such as Europe/Berlin")
