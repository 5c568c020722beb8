"""`python -m headrace_platform.control`: the operator, until SIGTERM."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import aiohttp
import kopf
import structlog
from pydantic import ValidationError

from headrace_platform.control.children import Children
from headrace_platform.control.claims import Claims
from headrace_platform.control.departure import Departure
from headrace_platform.control.environment import Environment, EnvironmentUnreadable, decode_environment
from headrace_platform.control.gateway_route import GatewayRoute
from headrace_platform.control.gpu_time.billing import BillingDoor
from headrace_platform.control.gpu_time.meter import Meter, Undelivered
from headrace_platform.control.gpu_time.records import Records
from headrace_platform.control.kubernetes_api import Access, ApiRefused, ApiUnavailable, KubernetesApi
from headrace_platform.control.labels import MANAGER
from headrace_platform.control.lease import Leader
from headrace_platform.control.operator import Watches, quiet_kopf
from headrace_platform.control.probe import Prober
from headrace_platform.control.proofs import Proofs
from headrace_platform.control.reconcile import Reconciler
from headrace_platform.control.replicas import Replicas
from headrace_platform.control.route import metrics_url
from headrace_platform.control.settings import OperatorSettings
from headrace_platform.control.work_queue import WorkQueue
from headrace_platform.control.yaml_file import FileUnreadable, read
from headrace_telemetry.logs import configure_logs

log = structlog.get_logger()


def main() -> None:
    configure_logs("operator")
    try:
        settings = OperatorSettings.from_environment()
        environment = decode_environment(read(settings.environment))
    except (ValidationError, EnvironmentUnreadable, FileUnreadable) as error:
        log.error("settings_unusable", why=str(error))  # noqa: TRY400 (no trace of interest)
        sys.exit(2)
    quiet_kopf()
    asyncio.run(operate(settings, environment))


def now() -> datetime:
    return datetime.now(UTC)


async def operate(settings: OperatorSettings, environment: Environment) -> None:
    """Works until SIGTERM or SIGINT, which kopf takes."""
    access = Access(settings.api_url, settings.api_token_file, settings.api_ca_file)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubernetesApi(access, MANAGER))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        meter = Meter(
            api,
            Records(api, settings.namespace),
            environment,
            now,
            settings.watched,
            BillingDoor(session, settings.billing_url, settings.ingest_token)
            if settings.billing_url is not None and settings.ingest_token is not None
            else None,
        )
        route = GatewayRoute(api, environment, timedelta(seconds=settings.route_propagation_seconds))
        reconciler = Reconciler(
            api,
            environment,
            Claims(api, environment, settings.watched),
            Children(api, now),
            Proofs(Prober(session), now, settings.endpoint_url),
            Replicas(session, now, settings.metrics_url or metrics_url(environment)),
            route,
            Departure(api, route, meter.close),
            now,
            settings.watched,
        )
        leader = Leader(api, settings.namespace, settings.identity, now)
        is_leading = leader.is_leading if settings.leases else lambda: True
        queue = WorkQueue(reconciler.reconcile, is_leading)
        works: list[asyncio.Task[None]] = []
        watches = Watches(queue, meter, is_healthy=lambda: not any(work.done() for work in works))
        works += [
            asyncio.create_task(work)
            for work in (
                queue.run(),
                *([leader.keep()] if settings.leases else []),
                every(settings.gpu_time_observe_seconds, meter.observe, is_leading),
                every(settings.gpu_time_ship_seconds, meter.ship, is_leading),
            )
        ]
        # kopf waits at its end for every task that has begun since its beginning.
        await asyncio.sleep(0)
        watching = kopf.operator(
            registry=watches.registry(access),
            standalone=True,
            clusterwide=not settings.watched,
            namespaces=settings.watched,
            liveness_endpoint=f"http://{settings.health_host}:{settings.health_port}/healthz",
        )
        try:
            await watching
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            if settings.leases:
                await leader.release()
    log.info("stopped")


async def every(seconds: float, work: Callable[[], Awaitable[None]], is_leading: Callable[[], bool]) -> None:
    """Does the work again and again until cancelled; what fails is done the next time."""
    while True:
        if is_leading():
            try:
                await work()
            except (ApiRefused, ApiUnavailable, Undelivered) as error:
                log.warning("gpu_time_waits", error=type(error).__name__, why=str(error))
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    main()
