"""The objects of a cluster and what the API server does to them: versions, generations, finalizers, owners.

Nothing waits here and nothing fails but by a `Refusal`, which leaves everything as it was.
"""

import itertools
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.kubernetes import ownership
from tests.support.kubernetes.kinds import BUILT_IN, Document, Kind, kinds_of
from tests.support.kubernetes.ownership import Manager, Owners
from tests.support.kubernetes.patches import merged, patched
from tests.support.kubernetes.refusals import Refusal
from tests.support.kubernetes.schema import violations, with_defaults
from tests.support.kubernetes.selectors import selector

# Written by the server alone; whatever a client sends for them is replaced by what was there.
SERVER_S = (
    "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
    "resourceVersion", "namespace", "name",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One step in the history that watches replay."""

    version: int
    type: str
    kind: Kind
    object: Document
    before: Document | None


@dataclass
class Stored:
    kind: Kind
    content: Document
    owners: Owners = field(default_factory=dict)

    def document(self) -> Document:
        document = deepcopy(self.content)
        if self.owners:
            document["metadata"]["managedFields"] = ownership.managed_fields(self.owners)
        return document


class Store:
    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self.kinds: list[Kind] = list(BUILT_IN)
        self.history: list[Change] = []
        self.listeners: list[Callable[[Change], None]] = []
        self.oldest_version = 0
        """Watches from before it are told that it is gone."""
        self._objects: dict[tuple[str, str, str, str], Stored] = {}
        self._versions = itertools.count(1)
        self.version = 0

    # Reading

    def kind(self, group: str, version: str, plural: str) -> Kind:
        for kind in self.kinds:
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return kind
        raise Refusal(404, f"the server could not find the requested resource {plural}.{version}.{group}")

    def kind_named(self, api_version: str, name: str) -> Kind:
        return next(kind for kind in self.kinds if (kind.api_version, kind.kind) == (api_version, name))

    def get(self, kind: Kind, namespace: str, name: str) -> Document:
        return self._stored(kind, namespace, name).document()

    def select(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Document]:
        matches = selector(labels)
        return [
            stored.document()
            for key, stored in sorted(self._objects.items())
            if key[:2] == kind.identity
            and namespace in (None, key[2])
            and matches(stored.content["metadata"].get("labels", {}))
        ]

    def owners(self, kind: Kind, namespace: str, name: str) -> Owners:
        return dict(self._stored(kind, namespace, name).owners)

    # Writing

    def create(self, kind: Kind, namespace: str, body: Document, manager: Manager | None = None) -> Document:
        body = deepcopy(body)
        metadata = body.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)
        name = metadata.get("name")
        if not name:
            raise Refusal(422, "metadata.name: Required value: name or generateName is required")
        key = (*kind.identity, namespace, name)
        if key in self._objects:
            raise Refusal(409, f'{kind.plural} "{name}" already exists', reason="AlreadyExists")
        if metadata.get("resourceVersion"):
            raise Refusal(400, "resourceVersion should not be set on objects to be created")
        owners = ownership.updated({}, body, {}, manager, kind.schema) if manager else {}
        return self._begin(kind, namespace, body, owners)

    def replace(self, kind: Kind, namespace: str, name: str, body: Document, manager: Manager) -> Document:
        stored = self._stored(kind, namespace, name)
        return self._change(stored, body, manager)

    def merge(self, kind: Kind, namespace: str, name: str, patch: Document, manager: Manager) -> Document:
        stored = self._stored(kind, namespace, name)
        return self._change(stored, merged(stored.content, patch), manager)

    def patch(
        self, kind: Kind, namespace: str, name: str, operations: list[Document], manager: Manager
    ) -> Document:
        stored = self._stored(kind, namespace, name)
        return self._change(stored, patched(stored.content, operations), manager)

    def apply(
        self, kind: Kind, namespace: str, name: str, body: Document, manager: Manager, *, force: bool
    ) -> tuple[Document, bool]:
        """The object after the apply, and whether the apply has created it."""
        stored = self._objects.get((*kind.identity, namespace, name))
        if body.get("metadata", {}).get("managedFields"):
            raise Refusal(400, "metadata.managedFields must be nil")
        if stored is None:
            if manager.subresource:
                raise Refusal(404, f'{kind.plural} "{name}" not found')
            body = {**deepcopy(body), "metadata": {**body.get("metadata", {}), "name": name}}
            made = ownership.apply({}, {}, body, manager, kind.schema, force=force)
            return self._begin(kind, namespace, made.content, made.owners), True
        self._check_version(stored, body)
        wanted = {key: item for key, item in body.items() if self._is_written(kind, manager, key)}
        result = ownership.apply(stored.content, stored.owners, wanted, manager, kind.schema, force=force)
        return self._settle(stored, result.content, result.owners, manager), False

    def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, version: str | None = None
    ) -> Document:
        stored = self._stored(kind, namespace, name)
        metadata = stored.content["metadata"]
        if uid not in (None, metadata["uid"]) or version not in (None, metadata["resourceVersion"]):
            raise Refusal(409, "the precondition on uid or resourceVersion does not hold")
        if not metadata.get("finalizers"):
            return self._remove(stored)
        if "deletionTimestamp" not in metadata:
            content = deepcopy(stored.content)
            content["metadata"] |= {"deletionTimestamp": self.stamp(), "deletionGracePeriodSeconds": 0}
            if "generation" in content["metadata"]:
                content["metadata"]["generation"] += 1
            self._keep(stored, content, stored.owners)
        return stored.document()

    def scale(self, kind: Kind, namespace: str, name: str, replicas: int, manager: Manager) -> Document:
        assert kind.scale is not None
        patch: Any = replicas
        for step in reversed(kind.scale["specReplicasPath"].strip(".").split(".")):
            patch = {step: patch}
        return self.merge(kind, namespace, name, patch, manager)

    # Faults and time

    def snapshot(self) -> "Snapshot":
        return deepcopy(self._objects)

    def restore(self, snapshot: "Snapshot") -> None:
        """As if nothing had happened since; versions go on, and watches are told nothing."""
        self._objects = deepcopy(snapshot)

    def compact(self) -> None:
        """Forgets the history: a watch from before now is answered 410."""
        self.oldest_version = self.version
        self.history.clear()

    def stamp(self) -> str:
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # How it is done

    def _stored(self, kind: Kind, namespace: str, name: str) -> Stored:
        try:
            return self._objects[*kind.identity, namespace, name]
        except KeyError:
            raise Refusal(404, f'{kind.plural} "{name}" not found') from None

    def _begin(self, kind: Kind, namespace: str, body: Document, owners: Owners) -> Document:
        content = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
        if kind.has_status:
            content.pop("status", None)
        if namespace and kind.namespaced and not self._has_namespace(namespace):
            raise Refusal(404, f'namespaces "{namespace}" not found')
        metadata = {**body["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": self.stamp()}
        if kind.namespaced:
            metadata["namespace"] = namespace
        if kind.has_status:
            metadata["generation"] = 1
        content["metadata"] = metadata
        content = _valid(kind, content)
        stored = Stored(kind, content)
        self._keep(stored, content, owners)
        if kind.kind == "CustomResourceDefinition":
            self.kinds.extend(kinds_of(content))
        document = stored.document()
        if self._is_orphan(stored):
            # Made by somebody who had not heard yet that the owner is gone.
            self.delete(kind, namespace, metadata["name"])
        return document

    def _has_namespace(self, name: str) -> bool:
        return ("", "namespaces", "", name) in self._objects

    def _change(self, stored: Stored, body: Document, manager: Manager) -> Document:
        self._check_version(stored, body)
        written = {key: item for key, item in body.items() if self._is_written(stored.kind, manager, key)}
        kept = {
            key: item
            for key, item in stored.content.items()
            if not self._is_written(stored.kind, manager, key)
        }
        content = {**kept, **written}
        owners = ownership.updated(stored.content, content, stored.owners, manager, stored.kind.schema)
        return self._settle(stored, content, owners, manager)

    @staticmethod
    def _is_written(kind: Kind, manager: Manager, key: str) -> bool:
        """A status is written through its subresource alone, and nothing else is."""
        if key in ("apiVersion", "kind"):
            return False
        if manager.subresource == "status":
            return key == "status"
        return key != "status" or not kind.has_status

    @staticmethod
    def _check_version(stored: Stored, body: Document) -> None:
        given = body.get("metadata", {})
        metadata = stored.content["metadata"]
        if given.get("resourceVersion") not in (None, metadata["resourceVersion"]):
            raise Refusal(
                409, "the object has been modified; please apply your changes to the latest version"
            )
        if given.get("uid") not in (None, metadata["uid"]):
            raise Refusal(409, "Precondition failed: UID in precondition and UID in object meta differ")

    def _settle(self, stored: Stored, content: Document, owners: Owners, manager: Manager) -> Document:
        old = stored.content
        metadata = {**content["metadata"]}
        for name in SERVER_S:
            metadata.pop(name, None)
            if name in old["metadata"]:
                metadata[name] = old["metadata"][name]
        metadata.pop("managedFields", None)
        added = set(metadata.get("finalizers", ())) - set(old["metadata"].get("finalizers", ()))
        if added and "deletionTimestamp" in metadata:
            raise Refusal(
                422, "metadata.finalizers: no new finalizers can be added if the object is being deleted"
            )
        content = _valid(stored.kind, {**content, "metadata": metadata})
        if content == old and owners == stored.owners:
            return stored.document()
        if "generation" in metadata and _wanted(content) != _wanted(old):
            metadata["generation"] += 1
        self._keep(stored, {**content, "metadata": metadata}, owners)
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            return self._remove(stored)
        return stored.document()

    def _keep(self, stored: Stored, content: Document, owners: Owners) -> None:
        metadata = content["metadata"]
        key = (*stored.kind.identity, metadata.get("namespace", ""), metadata["name"])
        before = stored.document() if key in self._objects else None
        metadata["resourceVersion"] = self._next_version()
        stored.content, stored.owners = content, owners
        self._objects[key] = stored
        self._tell(
            Change(self.version, "MODIFIED" if before else "ADDED", stored.kind, stored.document(), before)
        )

    def _remove(self, stored: Stored) -> Document:
        metadata = stored.content["metadata"]
        if stored.kind.kind == "Pod" and stored.content.get("status", {}).get("phase") == "Running":
            # A kubelet's part: containers have ended before a pod is gone.
            stored.content = {**stored.content, "status": _ended(stored.content, self.stamp())}
        before = stored.document()
        del self._objects[*stored.kind.identity, metadata.get("namespace", ""), metadata["name"]]
        metadata["resourceVersion"] = self._next_version()
        self._tell(Change(self.version, "DELETED", stored.kind, stored.document(), before))
        self._collect(metadata["uid"])
        return stored.document()

    def _collect(self, owner: str) -> None:
        """What has lost its last owner goes too."""
        for stored in list(self._objects.values()):
            metadata = stored.content["metadata"]
            was_owned = any(r["uid"] == owner for r in metadata.get("ownerReferences", []))
            key = (*stored.kind.identity, metadata.get("namespace", ""), metadata["name"])
            # A dependant of a dependant may be gone by now.
            if was_owned and key in self._objects and self._is_orphan(stored):
                self.delete(stored.kind, metadata.get("namespace", ""), metadata["name"])

    def _is_orphan(self, stored: Stored) -> bool:
        references = stored.content["metadata"].get("ownerReferences", [])
        if not references:
            return False
        alive = {other.content["metadata"]["uid"] for other in self._objects.values()}
        return not any(reference["uid"] in alive for reference in references)

    def _next_version(self) -> str:
        self.version = next(self._versions)
        return str(self.version)

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        for listener in list(self.listeners):
            listener(change)


Snapshot = dict[tuple[str, str, str, str], Stored]


def since(changes: Iterable[Change], kind: Kind, version: int) -> Iterator[Change]:
    return (
        change for change in changes if change.kind.identity == kind.identity and change.version > version
    )


def _ended(pod: Document, at: str) -> Document:
    containers = [
        {"name": container["name"], "state": {"terminated": {"exitCode": 0, "finishedAt": at}}}
        for container in pod["spec"]["containers"]
    ]
    return {**pod["status"], "phase": "Succeeded", "containerStatuses": containers}


def _wanted(content: Document) -> Document:
    return {name: item for name, item in content.items() if name not in ("metadata", "status")}


def _valid(kind: Kind, content: Document) -> Document:
    if not kind.schema:
        return content
    content = {**with_defaults(content, kind.schema), "metadata": content["metadata"]}
    found = list(itertools.islice(violations(content, kind.schema), 10))
    if found:
        name = content["metadata"]["name"]
        raise Refusal(422, f"{kind.kind} {name!r} is invalid: {'; '.join(found)}")
    return content
