"""Which kinds the API server knows: a few that every cluster has, and those of custom resource definitions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
"""An object of Kubernetes as its JSON."""


@dataclass(frozen=True)
class Kind:
    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    has_status: bool = False
    scale: Mapping[str, str] | None = None
    """`specReplicasPath` and the like, where there is a `/scale`."""
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The structural schema; empty for what is taken as it comes."""
    short_names: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def identity(self) -> tuple[str, str]:
        return self.group, self.plural

    def discovery(self) -> list[Document]:
        """Its entries in the discovery document of its group and version."""
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        entry = {
            "name": self.plural,
            "singularName": self.kind.lower(),
            "kind": self.kind,
            "namespaced": self.namespaced,
            "verbs": verbs,
            "shortNames": list(self.short_names),
        }
        subresources = ["status"] * self.has_status + ["scale"] * (self.scale is not None)
        return [
            entry,
            *(
                {**entry, "name": f"{self.plural}/{name}", "verbs": ["get", "patch", "update"]}
                for name in subresources
            ),
        ]


BUILT_IN = (
    Kind("", "v1", "namespaces", "Namespace", namespaced=False),
    Kind("", "v1", "events", "Event"),
    Kind("", "v1", "configmaps", "ConfigMap"),
    Kind("", "v1", "secrets", "Secret"),
    Kind("", "v1", "serviceaccounts", "ServiceAccount"),
    Kind("", "v1", "services", "Service", has_status=True),
    Kind("", "v1", "pods", "Pod", has_status=True),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", has_status=True),
    Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False, has_status=True),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", has_status=True),
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Kind("coordination.k8s.io", "v1", "leases", "Lease"),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
    ),
)


def kinds_of(definition: Document) -> list[Kind]:
    """A kind for each served version of a custom resource definition."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Kind(
            spec["group"],
            version["name"],
            names["plural"],
            names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            has_status="status" in version.get("subresources", {}),
            scale=version.get("subresources", {}).get("scale"),
            schema=version["schema"]["openAPIV3Schema"],
            short_names=tuple(names.get("shortNames", ())),
        )
        for version in spec["versions"]
        if version["served"]
    ]
