"""The Kubernetes API over real HTTP, on a `Store`: what controllers, kopf and clients speak with.

Discovery, get, list, watch with bookmarks, create, replace, the three patches, delete, status and scale. It keeps an
account of every call and misbehaves when told to.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web

from tests.support.http_server import serving_app
from tests.support.kubernetes.calls import Call, Script
from tests.support.kubernetes.kinds import Document, Kind
from tests.support.kubernetes.ownership import Manager
from tests.support.kubernetes.refusals import Refusal
from tests.support.kubernetes.selectors import selector
from tests.support.kubernetes.store import Change, Store, since

BODY_BYTES_MAX = 3 * 2**20
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
BOOKMARK_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """What the path of a request means."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


@dataclass
class ApiServer:
    store: Store = field(default_factory=Store)
    script: Script = field(default_factory=Script)
    calls: list[Call] = field(default_factory=list)
    token: str | None = None
    """Asked for where it is set."""
    url: str = ""
    _watches: set[asyncio.Queue[Change | None]] = field(default_factory=set)

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.is_write]

    def drop_watches(self) -> None:
        """Ends every watch, as a restart of the API server does."""
        for queue in self._watches:
            queue.put_nowait(None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            if document := self._discovery(request.path):
                return _json(document)
            target = self._target(request.path)
            call = _call(request, target)
            self.calls.append(call)
            return await self._answer(request, target, call)
        except Refusal as refusal:
            return _refused(refusal)

    async def _answer(self, request: web.Request, target: Target, call: Call) -> web.StreamResponse:
        fault = self.script.next_fault(call)
        if fault is not None:
            await self.script.delay(fault)
            if fault.status is not None:
                call.status = fault.status
                headers = {"Retry-After": str(fault.retry_after_seconds)} if fault.retry_after_seconds else {}
                return _refused(Refusal(fault.status, "told to refuse"), headers)
            if fault.is_cut and not fault.is_done:
                return _cut(request)
        before = self.store.version
        try:
            self._authenticate(call)
            if call.verb == "watch":
                return await self._watch(request, target)
            status, document = self._do(target, call, request, await request.read())
        except Refusal as refusal:
            call.status = refusal.status
            raise
        call.status, call.changed = status, self.store.version != before
        if fault is not None and fault.is_cut:
            return _cut(request)
        return _json(document, status)

    def _authenticate(self, call: Call) -> None:
        if self.token is not None and call.caller != self.token:
            raise Refusal(401, "Unauthorized")

    def _do(self, target: Target, call: Call, request: web.Request, raw: bytes) -> tuple[int, Document]:
        kind, namespace, name = target.kind, target.namespace, target.name
        query = request.query
        if call.verb == "list":
            return 200, self._list(target, query)
        if call.verb == "get":
            document = self.store.get(kind, namespace, name)
            return 200, _scale_of(kind, document) if target.subresource == "scale" else document
        operation = "Apply" if call.content_type == "application/apply-patch+yaml" else "Update"
        manager = Manager(call.manager or "unknown", operation, target.subresource)
        if call.verb == "delete":
            conditions = (json.loads(raw) if raw else {}).get("preconditions", {})
            version = conditions.get("resourceVersion")
            return 200, self.store.delete(kind, namespace, name, uid=conditions.get("uid"), version=version)
        body = yaml.safe_load(raw) if operation == "Apply" and raw[:1] != b"{" else json.loads(raw)
        if target.subresource == "scale":
            if call.verb == "patch" and call.content_type != "application/merge-patch+json":
                raise Refusal(415, f"/scale takes a merge patch, not {call.content_type}")
            document = self.store.scale(kind, namespace, name, body["spec"]["replicas"], manager)
            return 200, _scale_of(kind, document)
        if call.verb == "create":
            return 201, self.store.create(kind, namespace, body, manager)
        if call.verb == "update":
            return 200, self.store.replace(kind, namespace, name, body, manager)
        match call.content_type:
            case "application/merge-patch+json":
                return 200, self.store.merge(kind, namespace, name, body, manager)
            case "application/json-patch+json":
                return 200, self.store.patch(kind, namespace, name, body, manager)
            case "application/apply-patch+yaml":
                if not call.manager:
                    raise Refusal(422, "fieldManager is required for apply patch")
                document, created = self.store.apply(
                    kind, namespace, name, body, manager, force=query.get("force") == "true"
                )
                return (201 if created else 200), document
            case other:
                raise Refusal(415, f"the body of the request was in an unknown format: {other}")

    def _list(self, target: Target, query: Any) -> Document:
        found = self.store.select(target.kind, target.namespace or None, query.get("labelSelector", ""))
        start, limit = int(query.get("continue") or 0), int(query.get("limit") or 0) or len(found)
        page = found[start : start + limit]
        metadata: Document = {"resourceVersion": str(self.store.version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return {
            "kind": f"{target.kind.kind}List",
            "apiVersion": target.kind.api_version,
            "metadata": metadata,
            "items": page,
        }

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        version = int(request.query.get("resourceVersion") or 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if version < self.store.oldest_version:
            expired = Refusal(410, f"too old resource version: {version} ({self.store.oldest_version})")
            await response.write(_line("ERROR", expired.document()))
            return response
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        for missed in since(self.store.history, target.kind, version):
            queue.put_nowait(missed)
        listener = queue.put_nowait
        self.store.listeners.append(listener)
        self._watches.add(queue)
        matches = selector(request.query.get("labelSelector", ""))
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        deadline = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds") or 300)
        try:
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                try:
                    change = await asyncio.wait_for(queue.get(), min(left, BOOKMARK_SECONDS))
                except TimeoutError:
                    if bookmarks:
                        await response.write(_line("BOOKMARK", self._bookmark(target.kind)))
                    continue
                if change is None:
                    break
                if line := _seen(change, target, matches):
                    await response.write(line)
        except ConnectionError:
            pass  # whoever watched is gone
        finally:
            self.store.listeners.remove(listener)
            self._watches.discard(queue)
        return response

    def _bookmark(self, kind: Kind) -> Document:
        metadata = {"resourceVersion": str(self.store.version)}
        return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}

    def _discovery(self, path: str) -> Document | None:
        versions = {(kind.group, kind.version) for kind in self.store.kinds}
        groups = sorted({group for group, _ in versions if group})
        match path.strip("/").split("/"):
            case ["version"]:
                return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
            case ["api"]:
                return {"kind": "APIVersions", "versions": ["v1"]}
            case ["apis"]:
                return {
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": [_group(g, versions) for g in groups],
                }
            case ["api", version] if ("", version) in versions:
                group = ""
            case ["apis", group, version] if (group, version) in versions:
                pass
            case _:
                return None
        kinds = [kind for kind in self.store.kinds if (kind.group, kind.version) == (group, version)]
        return {
            "kind": "APIResourceList",
            "groupVersion": kinds[0].api_version,
            "resources": [entry for kind in kinds for entry in kind.discovery()],
        }

    def _target(self, path: str) -> Target:
        parts = path.strip("/").split("/")
        group, version, *rest = ["", *parts[1:]] if parts[0] == "api" else parts[1:]
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if not rest or len(rest) > 3:
            raise Refusal(404, f"no such path: {path}")
        kind = self.store.kind(group, version, rest[0])
        name, subresource = [*rest[1:], "", ""][:2]
        known = {"": True, "status": kind.has_status, "scale": kind.scale is not None}
        if not known.get(subresource):
            raise Refusal(404, f"{kind.plural} has no subresource {subresource!r}")
        return Target(kind, namespace, name, subresource)


@asynccontextmanager
async def serving(server: ApiServer) -> AsyncIterator[ApiServer]:
    """The server on a free port of this machine while the context lasts."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with serving_app(app) as server.url:
        try:
            yield server
        finally:
            server.drop_watches()


def _call(request: web.Request, target: Target) -> Call:
    verb = VERBS.get(request.method)
    if verb is None:
        raise Refusal(405, f"{request.method} is not supported")
    if verb == "get" and not target.name:
        verb = "watch" if request.query.get("watch") in ("true", "1") else "list"
    if (verb in ("create", "list", "watch")) is bool(target.name):
        raise Refusal(405, f"{request.method} is not supported on {request.path}")
    agent = request.headers.get("User-Agent", "").partition("/")[0]
    return Call(
        verb=verb,
        group=target.kind.group,
        plural=target.kind.plural,
        namespace=target.namespace,
        name=target.name,
        subresource=target.subresource,
        manager=request.query.get("fieldManager") or agent,
        content_type=request.content_type,
        caller=request.headers.get("Authorization", "").removeprefix("Bearer "),
    )


def _scale_of(kind: Kind, document: Document) -> Document:
    assert kind.scale is not None
    metadata = {key: document["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": _at(document, kind.scale["specReplicasPath"]) or 0},
        "status": {
            "replicas": _at(document, kind.scale["statusReplicasPath"]) or 0,
            "selector": _at(document, kind.scale.get("labelSelectorPath", "")) or "",
        },
    }


def _at(document: Any, path: str) -> Any:
    for name in path.strip(".").split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _seen(change: Change, target: Target, matches: Callable[[Any], bool]) -> bytes | None:
    """A change as a watch with a selector sees it: what leaves the selection is deleted, what enters it is added."""
    if change.kind.identity != target.kind.identity:
        return None
    metadata = change.object["metadata"]
    if target.namespace and metadata.get("namespace") != target.namespace:
        return None
    is_in = matches(metadata.get("labels", {}))
    was_in = change.before is not None and matches(change.before["metadata"].get("labels", {}))
    if change.type == "DELETED":
        return _line("DELETED", change.object) if was_in else None
    if is_in:
        return _line("MODIFIED" if was_in else "ADDED", change.object)
    return _line("DELETED", change.object) if was_in else None


def _line(kind: str, document: Document) -> bytes:
    return json.dumps({"type": kind, "object": document}).encode() + b"\n"


def _group(name: str, versions: set[tuple[str, str]]) -> Document:
    entries = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for group, version in sorted(versions)
        if group == name
    ]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _json(document: Document, status: int = 200) -> web.Response:
    return web.json_response(document, status=status)


def _refused(refusal: Refusal, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(refusal.document(), status=refusal.status, headers=headers)


def _cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
