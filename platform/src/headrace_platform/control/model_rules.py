"""Rules of the model that a deployment serves, and of where its weights come from."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from headrace_platform.catalog import models
from headrace_platform.catalog.models import ModelUnknown
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment
from headrace_platform.control.violation import Violation


def model_violations(deployment: ModelDeployment) -> Iterator[Violation]:
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


def source_violations(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
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
