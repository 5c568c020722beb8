"""The model that a deployment serves, and where its weights come from."""

from typing import Annotated

from msgspec import Meta, Struct

from headrace_platform.catalog.record import Format
from headrace_platform.control.words import (
    Digest,
    ModelName,
    ObjectName,
    Path,
    RelativePath,
    Repository,
    Sha256,
)


class S3Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A folder in an object store that speaks S3; every worker fetches it before its engine starts."""

    uri: Annotated[
        str,
        Meta(
            max_length=1024,
            pattern=r"^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/[-A-Za-z0-9._]+)*/?$",
            description="Bucket and prefix, `s3://bucket/prefix`.",
        ),
    ]
    size_gib: Annotated[int, Meta(ge=1, le=16384, description="Disk that the fetched files need, in GiB.")]
    endpoint: (
        Annotated[
            str,
            Meta(
                max_length=512,
                pattern="^https?://[-A-Za-z0-9.:]+$",
                description="Of a store that is not AWS.",
            ),
        ]
        | None
    ) = None
    region: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[-a-z0-9]+$")] | None = None
    credentials_secret: (
        Annotated[
            ObjectName,
            Meta(
                description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without it the pods' own identity."
            ),
        ]
        | None
    ) = None


class PvcSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A folder on a claim in the deployment's namespace that many nodes can read at once."""

    claim_name: ObjectName
    path: Annotated[RelativePath, Meta(description="Folder on the volume; its root where absent.")] | None = (
        None
    )


class OciSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """An image or artifact that holds the weights, mounted as a volume (Kubernetes 1.35, or the gate ImageVolume)."""

    repository: Repository
    digest: Digest
    path: Annotated[RelativePath, Meta(description="Folder in the image; its root where absent.")] | None = (
        None
    )


class HfSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A Hugging Face repository at one commit; every worker fetches it before its engine starts."""

    repository: Annotated[
        str, Meta(max_length=128, pattern="^[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*$")
    ]
    commit: Annotated[
        str,
        Meta(
            min_length=40,
            max_length=40,
            pattern="^[0-9a-f]{40}$",
            description="A branch may move; a commit can't.",
        ),
    ]
    size_gib: Annotated[int, Meta(ge=1, le=16384, description="Disk that the fetched files need, in GiB.")]
    token_secret: Annotated[ObjectName, Meta(description="Secret with HF_TOKEN.")] | None = None


class HostPathSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A folder that is on every node of the accelerator profile already, below a path that the operator allows."""

    path: Path


class ModelSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Exactly one place, and what proves that the weights are the ones meant."""

    sha256: (
        Annotated[
            Sha256,
            Meta(description="Of all the files; `serving.weights checksum FOLDER` prints it."),
        ]
        | None
    ) = None
    s3: S3Source | None = None
    pvc: PvcSource | None = None
    oci: OciSource | None = None
    hf: HfSource | None = None
    host_path: HostPathSource | None = None


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    id: Annotated[
        ModelName, Meta(description="Of a record in the catalogue: parsers, template, context, prices.")
    ]
    revision: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=128,
                pattern="^[-A-Za-z0-9._]+$",
                description="Of these weights; the record's where absent.",
            ),
        ]
        | None
    ) = None
    format: Annotated[
        Format | None,
        Meta(description="Of the weights; the record's most preferred that fits where absent."),
    ] = None
    served_names: Annotated[
        tuple[ModelName, ...], Meta(max_length=16, description="Further names that clients may ask for.")
    ] = ()
    source: (
        Annotated[ModelSource, Meta(description="Weights; those inside the image where absent.")] | None
    ) = None
