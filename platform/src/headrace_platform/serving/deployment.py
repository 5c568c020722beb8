"""The Ray Serve deployment: one replica is vLLM's server app, its engine and the account of both.

What is secret is read from the environment of the process that the replica runs in, so it never passes through
Ray's own storage; everything else comes with the application's arguments.
"""

import asyncio
import os

import msgspec
import structlog
from ray import serve

from headrace_contracts.engine import EngineRecord
from headrace_platform.catalog.engine import engine_arguments
from headrace_platform.catalog.serve import placed
from headrace_platform.serving.arguments import ApplicationArguments
from headrace_platform.serving.attempt_scope import AttemptScope
from headrace_platform.serving.attempts import Recorder
from headrace_platform.serving.environment import prepare_replica, ray_collects_metrics
from headrace_platform.serving.loopback import listen_on_loopback_alone
from headrace_platform.serving.settings import ReplicaSettings
from headrace_platform.serving.shipping import Billing, Shipper
from headrace_platform.serving.spool import Spool
from headrace_telemetry.logs import configure_logs

# How soon a dead engine is noticed, and how long the replica stays to answer those whom it has failed.
WATCH_SECONDS = 0.1
LAST_ANSWERS_SECONDS = 0.5
EXIT_ENGINE_DEAD = 70

log = structlog.get_logger()


@serve.ingress(None)
class Replica:
    """vLLM's server app with the engine's process behind it."""

    async def __init__(self, arguments: ApplicationArguments) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logs("engine")
        settings = ReplicaSettings.from_environment()
        record, profile, placement = placed(arguments.placement)
        prepare_replica(settings, eager=profile.engine.eager)
        listen_on_loopback_alone()
        # Takes seconds, so it is not done where this module is imported: Serve's controller does that as well.
        from headrace_platform.serving import engine  # noqa: PLC0415

        name: str = serve.get_replica_context().replica_id.unique_id
        self._spool = Spool(settings.spool_dir, name)
        self._shipper = Shipper(
            self._spool, Billing(arguments.records_url, settings.ingest_token.get_secret_value())
        )
        recorder = Recorder(self._keep, replica=name, deployment=arguments.deployment, model=record.id)
        self._arguments = engine.parse(
            [
                *engine_arguments(record, profile, placement, weights_at=arguments.weights_at),
                *arguments.engine_arguments,
            ]
        )
        self._engine = engine.start_engine(self._arguments, recorder, ray_metrics=ray_collects_metrics())
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
