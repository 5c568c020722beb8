"""Everything real: Postgres, Valkey behind a line that can be slowed, billing's API and worker, two gateways, each
with its journal on a small file system of its own.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import redis

from headrace_contracts.deployments import Deployment, DeploymentTable, encode_table
from headrace_platform.local import postgres, valkey
from headrace_platform.local.postgres import Postgres
from headrace_platform.local.python_module import HealthRoute
from headrace_platform.local.unprivileged import die_with_parent, in_child
from headrace_platform.local.valkey import Valkey
from tests.chaos.disk import SmallDisk
from tests.chaos.engine import CONTEXT_TOKENS, DEPLOYMENT, MODEL, SLOTS, ScriptedEngine
from tests.chaos.member import Member
from tests.chaos.schedule import GATEWAYS, Plan
from tests.chaos.slow_line import SlowLine
from tests.support.ports import unused_ports
from tests.support.upstream import serving
from tests.support.valkey import bounded

HOST = "127.0.0.1"
MEMORY = Path("/dev/shm")  # noqa: S108 - Postgres confirms to the disk, and a busy one would be the slowest part

REQUESTS_AT_ONCE_MAX = 64
SEGMENT_BYTES = 288 * 1024  # two take an event of each request; some three hundred events fill one
JOURNAL_BYTES_MAX = 12 * SEGMENT_BYTES
DISK_BYTES = JOURNAL_BYTES_MAX + 2 * 2**20

GRACE_SECONDS = 3.0
DRAIN_SECONDS = 10.0
IDLE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Secrets:
    admin: str
    ingest: str
    signing: str


class Stack:
    def __init__(self, folder: Path, plan: Plan, *, drain_wait_seconds: float | None) -> None:
        self.folder = folder
        self.secrets = Secrets(secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(32))
        self._drain_wait_seconds = drain_wait_seconds
        ports = unused_ports()
        self._data = contextlib.ExitStack()
        memory = Path(
            self._data.enter_context(
                tempfile.TemporaryDirectory(prefix="headrace-chaos-", dir=MEMORY if MEMORY.is_dir() else None)
            )
        )
        self._postgres = Postgres(
            folder=memory / "postgres", port=next(ports), password=secrets.token_hex(16)
        )
        self._valkey = Valkey(folder=memory / "valkey", port=next(ports), password=secrets.token_hex(16))
        self.line = SlowLine(self._valkey.port)
        self._line_port = next(ports)
        self._api_port = next(ports)
        self.gateway_ports = [next(ports) for _ in GATEWAYS]
        self.disks = [SmallDisk(folder / name, size_bytes=DISK_BYTES) for name in GATEWAYS]
        self.engine = ScriptedEngine(
            plan,
            folder / "records",
            records_url=f"{self.billing_url}/internal/v1/engine-records",
            ingest_token=self.secrets.ingest,
        )
        self.postgres = self._server("postgres", self._postgres, postgres.STOP_SIGNAL)
        self.valkey = self._server("valkey", self._valkey, valkey.STOP_SIGNAL)
        self.api = self._module(
            "billing-api", ("headrace_billing", "api"), self._billing(), self._api_port, "/healthz"
        )
        self.worker = self._module("billing-worker", ("headrace_billing", "worker"), self._billing())
        self.gateways = [
            self._module(name, ("headrace_gateway",), self._gateway(number), port, "/healthz")
            for number, (name, port) in enumerate(zip(GATEWAYS, self.gateway_ports, strict=True))
        ]

    @property
    def billing_url(self) -> str:
        return f"http://{HOST}:{self._api_port}"

    @property
    def database_url(self) -> str:
        return self._postgres.url()

    @property
    def valkey_url(self) -> str:
        """Past the slow line."""
        return self._valkey.url

    @property
    def members(self) -> list[Member]:
        """In the order in which they need each other."""
        return [self.postgres, self.valkey, self.api, self.worker, *self.gateways]

    @property
    def logs(self) -> dict[str, Path]:
        return {member.name: member.log for member in self.members}

    @contextlib.asynccontextmanager
    async def running(self, note: Callable[[str], None]) -> AsyncIterator[None]:
        with self._data:
            async with contextlib.AsyncExitStack() as stack:
                for disk in self.disks:
                    stack.enter_context(disk.mounted())
                await stack.enter_async_context(serving(self.engine))
                self.engine.shipper.start()
                stack.callback(self.engine.shipper.stop)
                self._write_deployments()
                await stack.enter_async_context(self.line.open(self._line_port))
                stack.push_async_callback(self._kill_everything)
                for member in (self.postgres, self.valkey):
                    await member.ready()
                self._postgres.create_database()
                self._migrate()
                for member in (self.api, self.worker, *self.gateways):
                    member.start()
                for member in (self.api, *self.gateways):
                    await member.ready()
                note("the stack is up")
                yield

    def erase_valkey(self) -> None:
        """What a lost volume does; Valkey must be down."""
        for path in sorted(self._valkey.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    @contextlib.contextmanager
    def full_valkey(self) -> Iterator[None]:
        with redis.Redis.from_url(self.valkey_url) as client, bounded(client, 1):
            yield

    async def _kill_everything(self) -> None:
        for member in reversed(self.members):
            member.go_on()
            await member.kill()

    def _write_deployments(self) -> None:
        deployment = Deployment(
            id=DEPLOYMENT,
            model=MODEL,
            url=self.engine.url,
            engine_model=MODEL,
            revision="1",
            context_tokens=CONTEXT_TOKENS,
            prompt_overhead_tokens=8,
            slots=SLOTS,
        )
        self._deployments.write_bytes(encode_table(DeploymentTable(deployments=[deployment])))

    @property
    def _deployments(self) -> Path:
        return self.folder / "deployments.json"

    def _server(self, name: str, server: Postgres | Valkey, stop_signal: signal.Signals) -> Member:
        return Member(
            name,
            launch=lambda log: server.start(log, dies_with_parent=True),
            is_ready=server.is_ready,
            log=self.folder / f"{name}.log",
            stop_signal=stop_signal,
        )

    def _module(
        self,
        name: str,
        arguments: tuple[str, ...],
        settings: Mapping[str, str],
        port: int | None = None,
        path: str = "",
    ) -> Member:
        def launch(log: IO[bytes]) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=in_child(lambda: die_with_parent(9)),  # noqa: PLW1509 - the main thread forks
            )

        health = None if port is None else HealthRoute(host=HOST, port=port, path=path)
        log = self.folder / f"{name}.log"
        return Member(name, launch=launch, is_ready=health.answers if health else lambda: True, log=log)

    def _migrate(self) -> None:
        subprocess.run(
            [sys.executable, "-P", "-m", "headrace_billing", "migrate"],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **self._billing()},
            check=True,
        )

    def _billing(self) -> dict[str, str]:
        settings = {
            "DATABASE_URL": self.database_url,
            "VALKEY_URL": self._slow_valkey_url,
            "HOST": HOST,
            "PORT": str(self._api_port),
            "ADMIN_TOKEN": self.secrets.admin,
            "INGEST_TOKEN": self.secrets.ingest,
            "SIGNING_KEY": self.secrets.signing,
        }
        if self._drain_wait_seconds is not None:
            settings["DRAIN_WAIT_SECONDS"] = str(self._drain_wait_seconds)
        return {f"HEADRACE_BILLING_{name}": value for name, value in settings.items()}

    def _gateway(self, number: int) -> dict[str, str]:
        settings = {
            "PORT": str(self.gateway_ports[number]),
            "VALKEY_URL": self._slow_valkey_url,
            "BILLING_URL": self.billing_url,
            "INGEST_TOKEN": self.secrets.ingest,
            "STATE_DIR": str(self.disks[number].folder),
            "DEPLOYMENTS": str(self._deployments),
            "NAME": GATEWAYS[number],
            "CONNECTIONS_MAX": str(REQUESTS_AT_ONCE_MAX),
            "JOURNAL_SEGMENT_BYTES": str(SEGMENT_BYTES),
            "JOURNAL_BYTES_MAX": str(JOURNAL_BYTES_MAX),
            "GRACE_SECONDS": str(GRACE_SECONDS),
            "DRAIN_SECONDS": str(DRAIN_SECONDS),
            "IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS),
        }
        return {f"HEADRACE_GATEWAY_{name}": value for name, value in settings.items()}

    @property
    def _slow_valkey_url(self) -> str:
        return self._valkey.url.replace(f":{self._valkey.port}/", f":{self._line_port}/")
