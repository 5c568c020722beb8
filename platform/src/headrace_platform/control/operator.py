"""kopf's part: it lists and watches, survives dropped watches and forgotten versions, and tells of what has changed.

Handlers only name the deployment that a change is about; what to do follows from what there is. So nothing of kopf's
is kept on the objects: no annotation of what was handled last, and the finalizer is our own.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf
import structlog

from headrace_platform.control.gpu_time.meter import Meter
from headrace_platform.control.kubernetes_api import Access
from headrace_platform.control.labels import DEPLOYMENT_LABEL, Manifest
from headrace_platform.control.observation import Key
from headrace_platform.control.resource import DEPLOYMENTS, PODS, RAY_SERVICES, Resource
from headrace_platform.control.work_queue import WorkQueue

# Longer than a watch may be silent with bookmarks, so that a dead connection is noticed.
WATCH_SERVER_TIMEOUT_SECONDS = 240
CONNECT_TIMEOUT_SECONDS = 10
REQUEST_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Watches:
    """What the operator is told of, and whom it tells."""

    queue: WorkQueue
    meter: Meter
    is_healthy: Callable[[], bool]

    def registry(self, access: Access) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.startup(registry=registry)
        async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
            settings.posting.enabled = False  # our own say more
            settings.watching.server_timeout = WATCH_SERVER_TIMEOUT_SECONDS
            settings.watching.connect_timeout = CONNECT_TIMEOUT_SECONDS
            # Handlers take no time, so nothing is waited for at the end.
            settings.queueing.idle_timeout = 1.0
            settings.queueing.exit_timeout = 0.5
            settings.networking.request_timeout = REQUEST_TIMEOUT_SECONDS
            settings.networking.connect_timeout = CONNECT_TIMEOUT_SECONDS

        @kopf.on.login(registry=registry)
        async def log_in(**_: Any) -> kopf.ConnectionInfo:
            ca_path = access.ca_file if access.is_secure else None
            return kopf.ConnectionInfo(server=access.url, ca_path=ca_path, token=access.token())

        @kopf.on.probe(registry=registry, id="work")
        async def probe(**_: Any) -> str:
            assert self.is_healthy(), "the work has stopped"
            return "ok"

        def on(resource: Resource, handle: Callable[[Manifest, str | None], None], **filters: Any) -> None:
            async def told(event: kopf.RawEvent, **_: Any) -> None:
                handle(dict(event["object"]), event["type"])

            kopf.on.event(
                resource.group,
                resource.version,
                resource.plural,
                registry=registry,
                id=resource.plural,
                **filters,
            )(told)

        of_ours = {"labels": {DEPLOYMENT_LABEL: kopf.PRESENT}}
        on(DEPLOYMENTS, self.deployment)
        on(RAY_SERVICES, self.child, **of_ours)
        on(PODS, self.pod, **of_ours)
        return registry

    def deployment(self, body: Manifest, _kind: str | None) -> None:
        self.queue.add(Key(body["metadata"]["namespace"], body["metadata"]["name"]))

    def child(self, body: Manifest, _kind: str | None) -> None:
        metadata = body["metadata"]
        self.queue.add(Key(metadata["namespace"], metadata["labels"][DEPLOYMENT_LABEL]))

    def pod(self, body: Manifest, kind: str | None) -> None:
        if kind == "DELETED":
            self.meter.saw_deleted(body)
        self.child(body, kind)


class ToStructlog(logging.Handler):
    """kopf's own words as lines like ours, from warnings up: its every step is no news."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "kopf", said=record.getMessage())


def quiet_kopf() -> None:
    logger = logging.getLogger("kopf")
    logger.handlers[:] = [ToStructlog(logging.WARNING)]
    logger.propagate = False
