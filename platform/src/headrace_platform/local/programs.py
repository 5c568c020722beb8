"""What the stack consists of, each program with its settings: the one place that knows how they fit together.

The order is the order of starting; stopping goes backwards. The engine and the gateway end before billing
does, because what they have metered last still has to reach it.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from headrace_contracts.deployments import Deployment, DeploymentTable
from headrace_contracts.endpoints import Endpoints
from headrace_platform.catalog import models
from headrace_platform.catalog.offer import offered
from headrace_platform.local import postgres, valkey
from headrace_platform.local.postgres import Postgres
from headrace_platform.local.processes import marks
from headrace_platform.local.python_module import HealthRoute, PythonModule
from headrace_platform.local.state import Layout, Secrets, State
from headrace_platform.local.valkey import Valkey
from headrace_platform.serving.settings import EngineSettings

HOST = "127.0.0.1"

# The name under which this gateway's journals are known to billing.
GATEWAY_NAME = "local"

# A service imports and connects in two seconds on a quiet machine.
READY_TIMEOUT_SECONDS = 120.0
# Ray and vLLM import for a minute on two cores, more when something else wants them too.
ENGINE_READY_TIMEOUT_SECONDS = 600.0

STOP_GRACE_SECONDS = 20.0
# Running streams end, then the journal waits until billing has all of it; what is left then is sent after the
# next start. The rest of the grace is for the process itself.
GATEWAY_STREAMS_SECONDS = 15.0
GATEWAY_DRAIN_SECONDS = 20.0
GATEWAY_GRACE_SECONDS = GATEWAY_STREAMS_SECONDS + GATEWAY_DRAIN_SECONDS + 10
ENGINE_GRACE_SECONDS = 40.0
# What its one replica takes at once; what comes beside waits at the gateway.
LOCAL_ENGINE_SLOTS: int = EngineSettings.model_fields["max_ongoing"].default


class Server(Protocol):
    """Something that can be started and asked whether it is ready."""

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]": ...

    def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    name: str
    server: Server
    after: tuple[str, ...] = ()
    """Programs that must be ready before this one starts."""
    port: int | None = None
    once: bool = False
    """It does its work and ends; ready means that it ended well."""
    prepare: Callable[[], None] | None = field(default=None, compare=False)
    """Done once when the program is ready, before those that come after it start."""
    ready_timeout_seconds: float = READY_TIMEOUT_SECONDS
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = STOP_GRACE_SECONDS

    @property
    def url(self) -> str | None:
        """For a browser or a client; Postgres and Valkey have theirs, with a password, in endpoints.json."""
        if self.port is None or not isinstance(self.server, PythonModule):
            return None
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Everything from which the programs and the stack's files follow."""

    state: State
    layout: Layout
    secrets: Secrets
    services_python: Path
    engine_python: Path | None
    """None when somebody else runs the engine."""

    def programs(self) -> list[Program]:
        programs = [
            self._postgres(),
            self._valkey(),
            self._billing("billing-migrations", "migrate", after=("postgres",), once=True),
            self._billing("billing-api", "api", after=("billing-migrations", "valkey"), health="/healthz"),
            # It has no port of its own: the API tells when Valkey has been loaded.
            self._billing(
                "billing-worker", "worker", after=("billing-migrations", "valkey"), health="/readyz"
            ),
        ]
        if self.engine_python is not None:
            programs.append(self._engine(self.engine_python))
        return [*programs, self._gateway()]

    def deployments(self) -> DeploymentTable:
        record = models.find(self.layout.model)
        assert record.context_tokens is not None, f"{record.id} is not served"
        upstream = self.layout.upstream
        return DeploymentTable(
            deployments=[
                Deployment(
                    id=self._deployment_id,
                    model=record.id,
                    url=upstream.url if upstream else self._url("engine"),
                    engine_model=upstream.model if upstream else record.id,
                    revision=record.revision,
                    aliases=list(record.aliases),
                    context_tokens=record.context_tokens,
                    slots=None if upstream else LOCAL_ENGINE_SLOTS,
                    salts_cache=upstream is None,
                    witnessed=upstream is None,
                    **offered(record),
                )
            ]
        )

    def endpoints(self, api_key: str | None) -> Endpoints:
        return Endpoints(
            gateway_url=self._url("gateway"),
            billing_url=self._url("billing-api"),
            console_url=None,
            api_key=api_key,
            admin_token=self.secrets.admin_token,
            database_url=self._postgres_server().url(),
            valkey_url=self._valkey_server().url,
            model=self.layout.model,
        )

    def _url(self, program: str) -> str:
        return f"http://{HOST}:{self.layout.ports[program]}"

    def _postgres_server(self) -> Postgres:
        return Postgres(
            folder=self.state.root / "postgres",
            port=self.layout.ports["postgres"],
            password=self.secrets.postgres_password,
            marks=marks(self.state, "postgres"),
        )

    def _postgres(self) -> Program:
        server = self._postgres_server()
        return Program(
            name="postgres",
            server=server,
            port=server.port,
            prepare=server.create_database,
            stop_signal=postgres.STOP_SIGNAL,
        )

    def _valkey_server(self) -> Valkey:
        return Valkey(
            folder=self.state.root / "valkey",
            port=self.layout.ports["valkey"],
            password=self.secrets.valkey_password,
            marks=marks(self.state, "valkey"),
        )

    def _valkey(self) -> Program:
        server = self._valkey_server()
        return Program(name="valkey", server=server, port=server.port, stop_signal=valkey.STOP_SIGNAL)

    def _billing(
        self,
        name: str,
        command: str,
        *,
        after: tuple[str, ...],
        once: bool = False,
        health: str | None = None,
    ) -> Program:
        port = self.layout.ports["billing-api"]
        settings = {
            "DATABASE_URL": self._postgres_server().url(),
            "VALKEY_URL": self._valkey_server().url,
            "HOST": HOST,
            "PORT": str(port),
            "ADMIN_TOKEN": self.secrets.admin_token,
            "INGEST_TOKEN": self.secrets.ingest_token,
            "SIGNING_KEY": self.secrets.signing_key,
            "GATEWAY_URL": self._url("gateway"),
        }
        if command == "worker":
            settings |= _metrics_of_the_worker(os.environ)
        return Program(
            name=name,
            after=after,
            once=once,
            port=port if command == "api" else None,
            server=self._module(
                name,
                ("headrace_billing", command),
                "HEADRACE_BILLING_",
                settings,
                HealthRoute(host=HOST, port=port, path=health) if health else None,
            ),
        )

    @property
    def _deployment_id(self) -> str:
        """One name in the gateway's events and the engine's records."""
        return f"{self.layout.model}-{GATEWAY_NAME}"

    def _engine(self, python: Path) -> Program:
        port = self.layout.ports["engine"]
        settings = {
            "MODEL": self.layout.model,
            "HOST": HOST,
            "PORT": str(port),
            "STATE_DIR": str(self.state.root / "engine"),
            "DEPLOYMENT": self._deployment_id,
            "RECORDS_URL": f"{self._url('billing-api')}/internal/v1/engine-records",
            "INGEST_TOKEN": self.secrets.ingest_token,
        }
        return Program(
            name="engine",
            port=port,
            ready_timeout_seconds=ENGINE_READY_TIMEOUT_SECONDS,
            grace_seconds=ENGINE_GRACE_SECONDS,
            server=self._module(
                "engine",
                ("headrace_platform.serving",),
                "HEADRACE_ENGINE_",
                settings,
                HealthRoute(host=HOST, port=port, path="/v1/models"),
                python=python,
            ),
        )

    def _gateway(self) -> Program:
        port = self.layout.ports["gateway"]
        settings = {
            "HOST": HOST,
            "PORT": str(port),
            "WORKERS": str(self.layout.gateway_workers),
            "VALKEY_URL": self._valkey_server().url,
            "BILLING_URL": self._url("billing-api"),
            "INGEST_TOKEN": self.secrets.ingest_token,
            "STATE_DIR": str(self.state.root / "gateway"),
            "DEPLOYMENTS": str(self.state.deployments_file),
            "NAME": GATEWAY_NAME,
            "GRACE_SECONDS": str(GATEWAY_STREAMS_SECONDS),
            "DRAIN_SECONDS": str(GATEWAY_DRAIN_SECONDS),
        }
        return Program(
            name="gateway",
            port=port,
            after=("billing-api", "billing-worker"),
            grace_seconds=GATEWAY_GRACE_SECONDS,
            server=self._module(
                "gateway",
                ("headrace_gateway",),
                "HEADRACE_GATEWAY_",
                settings,
                HealthRoute(host=HOST, port=port, path="/readyz"),
            ),
        )

    def _module(
        self,
        name: str,
        arguments: tuple[str, ...],
        prefix: str,
        settings: dict[str, str],
        health: HealthRoute | None,
        *,
        python: Path | None = None,
    ) -> PythonModule:
        return PythonModule(
            python=python or self.services_python,
            arguments=arguments,
            prefix=prefix,
            settings={prefix + setting: value for setting, value in settings.items()},
            folder=self.state.root / name,
            health=health,
            marks=marks(self.state, name),
        )


def _metrics_of_the_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """The port after the one that the caller's environment names, which is the API's: both run on this machine."""
    named = environment.get("HEADRACE_BILLING_METRICS_PORT", "")
    # What is no port is billing's to refuse.
    return {"METRICS_PORT": str(int(named) + 1)} if named.isdecimal() else {}
