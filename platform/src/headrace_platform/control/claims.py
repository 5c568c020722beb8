"""What a deployment takes of its tenant's quota: claimed before anything is made of it, granted once it was.

What must stay true: nothing takes accelerators that were not granted, and no two passes are granted the same ones,
whoever runs them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from headrace_platform.control.capacity import grants_wanted, together
from headrace_platform.control.deployment import ModelDeployment
from headrace_platform.control.environment import Environment
from headrace_platform.control.kubernetes_api import Conflict, KubernetesApi
from headrace_platform.control.labels import Manifest
from headrace_platform.control.observation import others
from headrace_platform.control.resource import DEPLOYMENTS
from headrace_platform.control.rules import violations
from headrace_platform.control.status import Grants
from headrace_platform.control.tenancy import held_by_others
from headrace_platform.control.violation import Violation

QUOTA_CODES = frozenset({"quota_exceeded", "quota_missing"})


@dataclass(frozen=True, slots=True)
class Claims:
    api: KubernetesApi
    environment: Environment
    namespaces: Sequence[str] = ()

    def broken(
        self, deployment: ModelDeployment, body: Manifest, others: Iterable[Manifest]
    ) -> list[Violation]:
        """Rules that it breaks, the quota beside these other deployments among them."""
        held = held_by_others(body, others, self.environment)
        return violations(deployment, self.environment, held)

    async def claim(self, deployment: ModelDeployment, body: Manifest) -> Manifest:
        """The deployment as it is then. Raises `Conflict` where another one has claimed the same.

        It says what it is about to take and then looks again at what others have said. So of two passes that want the
        same rest at once, at least one sees the other's claim and begins anew.
        """
        granted = deployment.status.granted
        claimed = together(granted, grants_wanted(deployment, self.environment))
        if claimed == granted:
            return body
        body = await self._write(body, claimed)
        now = await others(self.api, body, self.namespaces)
        if any(violation.code in QUOTA_CODES for violation in self.broken(deployment, body, now)):
            await self._write(body, ())
            raise Conflict(HTTPStatus.CONFLICT, "Claimed", "another deployment claims the same accelerators")
        return body

    def granted(self, deployment: ModelDeployment, *, may_linger: bool) -> Grants:
        """After it was made; `may_linger`, what it was made of before may still be there."""
        wanted = grants_wanted(deployment, self.environment)
        return together(deployment.status.granted, wanted) if may_linger else wanted

    async def _write(self, body: Manifest, claimed: Grants) -> Manifest:
        patch = {"status": {"claimed": msgspec.to_builtins(claimed)}}
        return await self.api.change(DEPLOYMENTS, body, patch, subresource="status")
