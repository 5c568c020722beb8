"""Which deployment serves a model: the table that the operator or `headrace up` writes, kept up to date.

What must stay true: a table that can't be read never replaces one that could; a request keeps the deployment
that it was admitted for.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from headrace_contracts.deployments import Deployment, DeploymentTable, decode_table

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How long a new table may wait. The file is small and on this machine: looking costs microseconds."""


class TableUnreadable(Exception):
    """There is no table to begin with."""


class Deployments:
    """Deployments by model name and alias, in the order of the table."""

    def __init__(self, table: DeploymentTable) -> None:
        self._by_name: dict[str, list[Deployment]] = {}
        for deployment in table.deployments:
            for name in dict.fromkeys((deployment.model, *deployment.aliases)):
                self._by_name.setdefault(name, []).append(deployment)
        self._models = {deployment.model: deployment for deployment in reversed(table.deployments)}

    def for_model(self, name: str) -> list[Deployment]:
        """Who may serve a request for this name, best first; empty when the model is unknown."""
        return self._by_name.get(name, [])

    def models(self, allowed: Iterable[str] | None) -> list[Deployment]:
        """One deployment for each model that a key may name, by name; `None` allows all."""
        names = self._models.keys() if allowed is None else self._models.keys() & set(allowed)
        return [self._models[name] for name in sorted(names)]


class DeploymentsFile:
    """The table as it stands in the file now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stamp = _stamp(path)
            self.current = Deployments(decode_table(path.read_bytes()))
        except (OSError, msgspec.MsgspecError) as error:
            raise TableUnreadable(str(error)) from error

    async def keep_reading(self) -> None:
        """Takes over every new table until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self.current = Deployments(decode_table(self._path.read_bytes()))
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("deployments_unreadable", path=str(self._path), error=str(error))
            return
        self._stamp = stamp
        log.info("deployments_read", models=len(self.current.models(None)))


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the file is written or, as in a ConfigMap, replaced through a link."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size
