"""The Ray Serve deployment: one replica is vLLM's server app, its engine and the account of both.

Everything is read from the environment of the process that the replica runs in, so no secret passes through
Ray's own storage.
"""

import asyncio
import os
from typing import Any

import msgspec
import structlog
from ray import serve

from headrace_contracts.engine import EngineRecord
from headrace_platform.catalog import models
from headrace_platform.catalog.engine import LOCAL_CPU, engine_arguments
from headrace_platform.serving.attempt_scope import AttemptScope
from headrace_platform.serving.attempts import Recorder
from headrace_platform.serving.environment import prepare_replica
from headrace_platform.serving.loopback import listen_on_loopback_alone
from headrace_platform.serving.settings import EngineSettings
from headrace_platform.serving.shipping import Billing, Shipper
from headrace_platform.serving.spool import Spool
from headrace_telemetry.logs import configure_logs

APPLICATION = "engine"
DEPLOYMENT = "vllm"

# How soon a dead engine is noticed, and how long the replica stays to answer those whom it has failed.
WATCH_SECONDS = 0.1
LAST_ANSWERS_SECONDS = 0.5
EXIT_ENGINE_DEAD = 70

HEALTH_CHECK_PERIOD_SECONDS = 2.0
HEALTH_CHECK_TIMEOUT_SECONDS = 10.0

log = structlog.get_logger()


@serve.ingress(None)
class Replica:
    """vLLM's server app with the engine's process behind it."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logs("engine")
        settings = EngineSettings.from_environment()
        prepare_replica(settings)
        listen_on_loopback_alone()
        # Takes seconds, so it is not done where this module is imported: Serve's controller does that as well.
        from headrace_platform.serving import engine  # noqa: PLC0415

        record = models.find(settings.model)
        name: str = serve.get_replica_context().replica_id.unique_id
        self._spool = Spool(settings.spool_dir, name)
        self._shipper = Shipper(
            self._spool, Billing(settings.records_url, settings.ingest_token.get_secret_value())
        )
        recorder = Recorder(
            self._keep, replica=name, deployment=settings.deployment or record.id, model=record.id
        )
        self._arguments = engine.parse(engine_arguments(record, LOCAL_CPU))
        self._engine = engine.start_engine(self._arguments, recorder)
        self._watch = asyncio.create_task(self._exit_with_the_engine())
        self._server_app = engine.server_app
        self._shipper.start()
        log.info("replica_ready", replica=name, model=record.id, pid=os.getpid())

    async def __serve_build_asgi_app__(self) -> AttemptScope:
        return await self._server_app(self._engine, self._arguments)

    async def check_health(self) -> None:
        await self._engine.check_health()

    def __del__(self) -> None:
        # Serve calls this at a clean stop, also for a replica that never came up.
        if hasattr(self, "_engine"):
            self._watch.cancel()
            self._engine.shutdown()
            self._shipper.stop()
            self._spool.close()

    def _keep(self, record: EngineRecord) -> None:
        self._spool.append(msgspec.json.encode(record))
        self._shipper.notice()

    async def _exit_with_the_engine(self) -> None:
        """A replica without its engine can only fail requests, and Serve would take half a minute to see that."""
        while not self._engine.errored:  # noqa: ASYNC110 (vLLM has a flag and no event)
            await asyncio.sleep(WATCH_SECONDS)
        log.error("engine_died")
        await asyncio.sleep(LAST_ANSWERS_SECONDS)
        os._exit(EXIT_ENGINE_DEAD)


def application(settings: EngineSettings) -> Any:
    """What `serve.run` takes."""
    return (
        serve.deployment(Replica, name=DEPLOYMENT)
        .options(
            num_replicas=None,
            autoscaling_config={
                "min_replicas": settings.min_replicas,
                "initial_replicas": settings.min_replicas,
                "max_replicas": settings.max_replicas,
                "target_ongoing_requests": settings.target_ongoing,
                "upscale_delay_s": settings.upscale_delay_seconds,
                "downscale_delay_s": settings.downscale_delay_seconds,
                # Decided on the last seconds alone: a queue of prompts is felt at once.
                "metrics_interval_s": 1,
                "look_back_period_s": 3,
            },
            max_ongoing_requests=settings.max_ongoing,
            max_queued_requests=settings.max_queued,
            # An update starts the new ones before it stops the old.
            max_surge_percent=100,
            health_check_period_s=HEALTH_CHECK_PERIOD_SECONDS,
            health_check_timeout_s=HEALTH_CHECK_TIMEOUT_SECONDS,
            graceful_shutdown_wait_loop_s=0.5,
            graceful_shutdown_timeout_s=settings.drain_seconds,
            ray_actor_options={"num_cpus": settings.replica_cpus},
        )
        .bind()
    )
