"""How the weights come before the engine: a volume, and whoever fills or proves it before the engine starts.

The checksum is taken where the engine will read: a bucket or a claim that somebody else wrote to is noticed before
a request is answered with it. `python -m headrace_platform.serving.weights` is the program.
"""

from dataclasses import dataclass
from typing import Any

from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment
from headrace_platform.control.images import reference
from headrace_platform.control.labels import NAMESPACE_LABEL, Manifest, labels, metadata
from headrace_platform.control.model_source import ModelSource

FOLDER = "/weights"
VOLUME = "weights"

PROGRAM = ("python", "-m", "headrace_platform.serving.weights")

# Reading is what takes the time; four threads keep a fast disk busy.
INIT_CPUS = 4
INIT_MEMORY_GIB = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    location: str
    """The folder that the engine reads."""
    volume: dict[str, Any]
    writable: bool
    program: tuple[str, ...] | None
    """What runs before the engine; None where the volume's own digest is proof."""
    variables: tuple[dict[str, Any], ...] = ()
    """Of that program alone."""


def weights(deployment: ModelDeployment, environment: Environment) -> Weights | None:
    """None where the weights are inside the engine's image."""
    source = deployment.spec.model.source
    if source is None:
        return None
    if source.s3 is not None:
        s3 = source.s3
        endpoint = ("--endpoint", s3.endpoint) if s3.endpoint else ()
        region = ({"name": "AWS_REGION", "value": s3.region},) if s3.region else ()
        return Weights(
            location=FOLDER,
            volume=_scratch(s3.size_gib, environment),
            writable=True,
            program=(*PROGRAM, "fetch", s3.uri, FOLDER, *_checksum(source), *endpoint),
            variables=region
            + _from_secret(s3.credentials_secret, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        )
    if source.hf is not None:
        hf = source.hf
        return Weights(
            location=FOLDER,
            volume=_scratch(hf.size_gib, environment),
            writable=True,
            program=(*PROGRAM, "fetch", f"hf://{hf.repository}@{hf.commit}", FOLDER, *_checksum(source)),
            variables=_from_secret(hf.token_secret, "HF_TOKEN"),
        )
    if source.pvc is not None:
        return _mounted(
            source,
            {"persistentVolumeClaim": {"claimName": source.pvc.claim_name, "readOnly": True}},
            source.pvc.path,
        )
    if source.oci is not None:
        image = reference(source.oci.repository, source.oci.digest, environment)
        return _mounted(
            source, {"image": {"reference": image, "pullPolicy": "IfNotPresent"}}, source.oci.path
        )
    return _mounted(
        source,
        {"persistentVolumeClaim": {"claimName": host_path_claim_name(deployment), "readOnly": True}},
        None,
    )


def host_path_volume(deployment: ModelDeployment) -> tuple[Manifest, ...]:
    """A volume and its claim over a folder of the node, for no pod may name such a folder itself.

    The pods' namespace may then forbid host paths altogether, as Kubernetes' restricted level does. The volume
    belongs to the cluster and to no namespace, so whoever deletes the deployment has to delete it.
    """
    source = deployment.spec.model.source
    if source is None or source.host_path is None:
        return ()
    claim = host_path_claim_name(deployment)
    namespace = deployment.metadata.namespace
    volume_name = f"headrace.{namespace}.{deployment.metadata.name}"
    # Nothing is ever provisioned or written, yet Kubernetes wants a size on both sides.
    size = {"storage": "1Gi"}
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    return (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": volume_name,
                "labels": {**labels(deployment, "weights"), NAMESPACE_LABEL: namespace},
            },
            "spec": {
                "capacity": size,
                **access,
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": namespace,
                    "name": claim,
                },
                "hostPath": {"path": source.host_path.path, "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(deployment, claim, "weights"),
            "spec": {**access, "volumeName": volume_name, "resources": {"requests": size}},
        },
    )


def host_path_claim_name(deployment: ModelDeployment) -> str:
    return f"{deployment.metadata.name}-weights"


def _mounted(source: ModelSource, volume: dict[str, Any], path: str | None) -> Weights:
    location = f"{FOLDER}/{path}" if path else FOLDER
    return Weights(
        location=location,
        volume=volume,
        writable=False,
        program=(*PROGRAM, "verify", location, *_checksum(source)) if source.sha256 else None,
    )


def _checksum(source: ModelSource) -> tuple[str, ...]:
    assert source.sha256 is not None, "a source without checksum was let through by the rules"
    return ("--sha256", source.sha256)


def _scratch(size_gib: int, environment: Environment) -> dict[str, Any]:
    """Room that comes and goes with the pod: on the node's own disk, or of the class that the cluster has for it."""
    if environment.weights_storage_class is None:
        return {"emptyDir": {"sizeLimit": f"{size_gib}Gi"}}
    return {
        "ephemeral": {
            "volumeClaimTemplate": {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": environment.weights_storage_class,
                    "resources": {"requests": {"storage": f"{size_gib}Gi"}},
                }
            }
        }
    }


def _from_secret(secret: str | None, *names: str) -> tuple[dict[str, Any], ...]:
    if secret is None:
        return ()
    return tuple(
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in names
    )
