"""A thin client of the Kubernetes API: what the operator needs of it, with its retries and bounds.

The official client is generated, synchronous and has no server-side apply of plain documents; kopf's own is private.
What must stay true: a request is repeated only when the server says so or never answered, and all that we send may
be sent twice: applies and deletes are idempotent, other patches carry the version that they were made for.
"""

import asyncio
import json
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog

from headrace_platform.control.labels import Manifest
from headrace_platform.control.resource import EVENTS, Resource

REQUEST_TIMEOUT_SECONDS = 30.0
ATTEMPTS_MAX = 5
BACKOFF_SECONDS_MIN = 0.2
# The work queue tries again behind it, so that one object does not hold its worker for minutes.
BACKOFF_SECONDS_MAX = 5.0
# A list of objects is read in pages: a RayService may have 100 KiB.
PAGE_MAX = 200

APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"

log = structlog.get_logger()


class ApiRefused(Exception):
    """The API server has answered no, and would say so again."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ApiUnavailable(Exception):
    """No answer, or that it can't now; the same request may be sent again later."""


class Conflict(ApiRefused):
    """The object is another one than we had seen: look again."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and who we are."""

    url: str
    token_file: Path | None = None
    """Read for each request, for the kubelet renews it hourly."""
    ca_file: Path | None = None

    def token(self) -> str | None:
        return self.token_file.read_text().strip() or None if self.token_file is not None else None

    @property
    def is_secure(self) -> bool:
        """Plain HTTP is for a proxy on this machine, such as `kubectl proxy`."""
        return self.url.startswith("https:")

    def tls(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=self.ca_file) if self.is_secure else True


@dataclass
class KubernetesApi:
    """To be used as a context, which holds the connections."""

    access: Access
    manager: str
    backoff_seconds_min: float = BACKOFF_SECONDS_MIN
    attempts_max: int = ATTEMPTS_MAX
    _session: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            base_url=self.access.url,
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            connector=aiohttp.TCPConnector(ssl=self.access.tls()),
            headers={"User-Agent": f"{self.manager}/1"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """None where there is no such object."""
        try:
            return await self._ask("GET", resource.path(namespace, name))
        except ApiRefused as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def items(
        self, resource: Resource, namespace: str = "", labels: Mapping[str, str | None] = {}
    ) -> list[Manifest]:
        """All objects with these labels (None: with any value), of one namespace or of all.

        None where the cluster has no such kind.
        """
        found: list[Manifest] = []
        terms = [name if value is None else f"{name}={value}" for name, value in labels.items()]
        selector = ",".join(sorted(terms))
        query = {"labelSelector": selector, "limit": str(PAGE_MAX)}
        while True:
            try:
                page = await self._ask("GET", resource.path(namespace), query=query)
            except ApiRefused as refusal:
                if refusal.status == HTTPStatus.NOT_FOUND:
                    return []
                raise
            # An item of a list does not say its kind.
            found += [
                {"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page["items"]
            ]
            if not (token := page["metadata"].get("continue")):
                return found
            query["continue"] = token

    async def apply(self, resource: Resource, manifest: Manifest, *, manager: str | None = None) -> Manifest:
        """Makes the object have these fields, whoever had them; what the manager had before and isn't there goes."""
        metadata = manifest["metadata"]
        query = {"fieldManager": manager or self.manager, "force": "true", "fieldValidation": "Strict"}
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        return await self._ask("PATCH", path, manifest, content_type=APPLY, query=query)

    async def change(
        self, resource: Resource, seen: Manifest, patch: Manifest, *, subresource: str = ""
    ) -> Manifest:
        """Merges a patch into an object as it was seen. Raises `Conflict` where it has changed since."""
        metadata = seen["metadata"]
        patch = {
            **patch,
            "metadata": {
                **patch.get("metadata", {}),
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = {"fieldManager": self.manager, "fieldValidation": "Strict"}
        return await self._ask("PATCH", path, patch, content_type=MERGE, query=query)

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        path = resource.path(manifest["metadata"]["namespace"])
        return await self._ask("POST", path, manifest, query={"fieldManager": self.manager})

    async def delete(self, resource: Resource, seen: Manifest) -> None:
        """Of this very object, not of one that has taken its name since; gone already is as good."""
        metadata = seen["metadata"]
        body = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        try:
            await self._ask("DELETE", path, body)
        except ApiRefused as refusal:
            if refusal.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def post_event(self, about: Manifest, *, kind: str, reason: str, message: str, at: str) -> None:
        """Tells whoever looks at the object; that it could not be told is no reason to stop."""
        metadata = about["metadata"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"], "generateName": f"{metadata['name']}-"},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": self.manager},
            "reportingComponent": self.manager,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        try:
            await self.create(EVENTS, event)
        except (ApiRefused, ApiUnavailable) as error:
            log.warning("event_not_posted", reason=reason, error=str(error))

    async def _ask(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] = {},
    ) -> Manifest:
        attempt = 1
        while True:
            try:
                return await self._ask_once(method, path, body, content_type, query)
            except _Busy as busy:
                if attempt >= self.attempts_max:
                    raise ApiUnavailable(f"{method} {path}: {busy}") from busy
                pause_seconds = min(self.backoff_seconds_min * 2**attempt, BACKOFF_SECONDS_MAX)
                # Half of it by chance, so that those who were refused together don't come back together.
                pause_seconds *= random.uniform(0.5, 1.0)  # noqa: S311
                await asyncio.sleep(max(pause_seconds, busy.retry_after_seconds))
                attempt += 1

    async def _ask_once(
        self, method: str, path: str, body: Manifest | None, content_type: str, query: Mapping[str, str]
    ) -> Manifest:
        assert self._session is not None, "the client is used outside of its context"
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if (token := self.access.token()) is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(
                method, path, data=content, headers=headers, params=query
            ) as response:
                raw = await response.read()
                retry_after = response.headers.get("Retry-After", "")
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise _Busy(str(error) or type(error).__name__) from error
        if (
            response.status == HTTPStatus.TOO_MANY_REQUESTS
            or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            raise _Busy(f"HTTP {response.status}", min(int(retry_after), 60) if retry_after.isdigit() else 0)
        document = _decoded(raw)
        if response.status >= HTTPStatus.BAD_REQUEST:
            kind = Conflict if response.status == HTTPStatus.CONFLICT else ApiRefused
            message = f"{method} {path}: {document.get('message', f'HTTP {response.status}')}"
            raise kind(response.status, str(document.get("reason", "")), message)
        return document


class _Busy(Exception):
    """Not now."""

    def __init__(self, why: str, retry_after_seconds: float = 0) -> None:
        super().__init__(why)
        self.retry_after_seconds = retry_after_seconds


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
