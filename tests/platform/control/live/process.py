"""The operator as it runs: a process of its own, told by its environment, on a cluster that is served over HTTP."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.platform.control.examples import ENVIRONMENT
from tests.platform.control.live.ground import Ground

START_SECONDS = 60.0
STOP_SECONDS = 45.0

TOKEN_OF_THE_OPERATOR = "the-operator-s-token"


@dataclass
class Process:
    process: asyncio.subprocess.Process
    log: Path
    health: str

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)

    async def is_healthy(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.health) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False


@asynccontextmanager
async def running(ground: Ground, folder: Path, port: int, **settings: str) -> AsyncIterator[Process]:
    """Killed at the end, if it runs still."""
    told = {
        "ENVIRONMENT": str(ENVIRONMENT),
        "NAMESPACE": "headrace",
        "IDENTITY": "operator-0",
        "API_URL": ground.server.url,
        "API_TOKEN_FILE": str(_token(ground, folder)),
        "HEALTH_PORT": str(port),
        "ENDPOINT_URL": ground.endpoints.template,
        "METRICS_URL": ground.endpoints.metrics_template,
        "ROUTE_PROPAGATION_SECONDS": "0",
        "GPU_TIME_OBSERVE_SECONDS": "0.5",
        "GPU_TIME_SHIP_SECONDS": "0.5",
        "LEASES": "false",
        **settings,
    }
    log = folder / f"operator-{port}.log"
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "headrace_platform.control",
            stderr=file,
            env={**os.environ, **{f"HEADRACE_OPERATOR_{name}": value for name, value in told.items()}},
        )
    operator = Process(process, log, f"http://127.0.0.1:{port}/healthz")
    try:
        yield operator
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def kuberay_at_work(ground: Ground) -> AsyncIterator[None]:
    """KubeRay follows every change by itself."""

    async def work() -> None:
        while True:
            await ground.ray.step()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = START_SECONDS) -> None:
    """Returns when the condition holds; fails when it doesn't in time."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 (what changes is in another process)
            await asyncio.sleep(0.05)


def _token(ground: Ground, folder: Path) -> Path:
    """The server takes the token from the operator alone; tests come without one."""
    file = folder / "token"
    file.write_text(TOKEN_OF_THE_OPERATOR)
    return file
