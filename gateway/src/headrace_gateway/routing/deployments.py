"""Which deployment serves a model: the table that the operator or `headrace up` writes, kept up to date.

What must stay true: nobody's request is ever routed to another organisation's deployment; a request keeps the
deployment that it was admitted for.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from headrace_contracts.deployments import Deployment
from headrace_gateway.routing.tables import Tables

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How long a new table may wait. Files are few and on this machine: looking costs microseconds."""


class Deployments:
    """Deployments by model name and alias, in the order given: those of all, and those of one organisation each.
    Either name with `@` and a revision leads to that revision alone.

    An organisation finds its own before those of all, and another's never: a dedicated deployment of a model is
    what was bought, and what others have is not even a name. Those of all stand behind its own of the same name only
    where one of these says so (`overflow`).
    """

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self.every = every = list(deployments)
        self.by_id = {each.id: each for each in every}
        self._shared = Named([each for each in every if each.tenant is None])
        self._owned = {
            tenant: Named([each for each in every if each.tenant == tenant], self._shared)
            for tenant in {each.tenant for each in every if each.tenant is not None}
        }

    def for_model(self, name: str, org: str) -> list[Deployment]:
        """Who may serve a request of this organisation for this name, best first; empty when there is none."""
        return self._of(org).by_name.get(name, [])

    def models(self, org: str) -> list[Deployment]:
        """One deployment, the best, for each model that the organisation may know of, by name."""
        found = self._of(org).by_model
        return [found[model] for model in sorted(found)]

    def _of(self, org: str) -> "Named":
        return self._owned.get(org, self._shared)


class Named:
    """Deployments, best first, by what they may be called."""

    def __init__(self, deployments: list[Deployment], behind: "Named | None" = None) -> None:
        self.by_name: dict[str, list[Deployment]] = {}
        self.by_model: dict[str, Deployment] = {}
        for deployment in deployments:
            known = self.by_model.get(deployment.model)
            if known is None or (known.projects and not deployment.projects):
                self.by_model[deployment.model] = deployment
            for name in deployment.names:
                self.by_name.setdefault(name, []).append(deployment)
        if behind is not None:
            self.by_model = behind.by_model | self.by_model
            for name, others in behind.by_name.items():
                own = self.by_name.get(name, [])
                if not own or any(each.overflow for each in own):
                    self.by_name[name] = own + others


class DeploymentsFile:
    """The tables as they stand in the file or folder now."""

    def __init__(self, path: Path) -> None:
        """Raises `TablesUnreadable`."""
        self._tables = Tables(path)
        self.current = Deployments(self._tables.deployments)

    def newest(self, deployment: Deployment) -> Deployment:
        """How the table has it now; as it was, where it has it no more."""
        return self.current.by_id.get(deployment.id, deployment)

    @property
    def unreadable(self) -> int:
        """Tables that can't be read now, or say what can't be."""
        return self._tables.unreadable

    async def keep_reading(self) -> None:
        """Takes over every new table until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        if self._tables.look():
            self.current = Deployments(self._tables.deployments)
            log.info("deployments_read", deployments=len(self._tables.deployments))
