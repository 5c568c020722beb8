"""Whether what is in the cluster is what was rendered. Pure.

The API server fills in defaults and others own fields of their own, so an object may have more than we said, and is
right when it has all that we said. What we said once and say no longer is told by the digest of the last apply.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from headrace_platform.control.labels import Manifest

DIGEST_ANNOTATION = "headrace.dev/applied"


def stamped(manifest: Manifest) -> Manifest:
    """With the digest of itself, to be applied."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), DIGEST_ANNOTATION: digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of(manifest: Manifest) -> str:
    """That it was stamped with; empty where it never was."""
    return str(manifest["metadata"].get("annotations", {}).get(DIGEST_ANNOTATION, ""))


def drift(live: Manifest | None, wanted: Manifest) -> list[str]:
    """Paths at which the live object is not what a stamped manifest says; empty when nothing is to be done."""
    if live is None:
        return ["."]
    return list(_differences(live, wanted, ""))


def needs_new_cluster(live: Manifest, wanted: Manifest) -> bool:
    """Whether KubeRay would build a second cluster for this RayService: any change but of numbers of workers."""
    given, now = wanted["spec"]["rayClusterConfig"], live["spec"]["rayClusterConfig"]
    return any(
        not path.endswith((".replicas", ".minReplicas", ".maxReplicas"))
        for path in _differences(now, given, "")
    )


def _differences(live: Any, wanted: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            yield path
            return
        for name, value in wanted.items():
            if name in live:
                yield from _differences(live[name], value, f"{path}.{name}")
            elif value not in ({}, []):  # the API server drops what is empty
                yield f"{path}.{name}"
    elif isinstance(wanted, list):
        if not isinstance(live, list) or len(live) != len(wanted):
            yield path
            return
        for number, (item, value) in enumerate(zip(live, wanted, strict=True)):
            yield from _differences(item, value, f"{path}[{number}]")
    elif live != wanted:
        yield path
