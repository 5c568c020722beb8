"""All lines of this gateway, within their bounds.

What must stay true: whoever gives up, for whatever reason, is in no line from then on; after the end nobody waits.
"""

from collections.abc import Callable
from dataclasses import dataclass

from headrace_contracts.deployments import Deployment
from headrace_gateway.errors import CapacityExhausted, GatewayError
from headrace_gateway.routing.line import Line, Slots, Waiter


@dataclass(frozen=True, slots=True)
class QueueBounds:
    wait_seconds: float
    """Where a deployment says nothing else."""
    requests_max: int
    """For one deployment, at this gateway."""
    org_requests_max: int
    """Of these one organisation's."""


class Lines:
    def __init__(
        self, slots: Slots, bounds: QueueBounds, *, newest: Callable[[Deployment], Deployment]
    ) -> None:
        """`newest`: how the table has a deployment now, or as it was where it has it no more."""
        self._slots = slots
        self._bounds = bounds
        self._newest = newest
        self._lines: dict[str, Line] = {}
        self._ended: GatewayError | None = None

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def count_at(self, deployment: Deployment) -> int:
        line = self._lines.get(deployment.id)
        return 0 if line is None else len(line)

    def waits_for(self, deployment: Deployment) -> bool:
        """Whether anybody does, here."""
        return deployment.id in self._lines

    def wait_seconds(self, deployment: Deployment) -> float:
        own = deployment.wait_seconds
        return self._bounds.wait_seconds if own is None else own

    async def enter(self, waiter: Waiter) -> None:
        """Raises `CapacityExhausted` when the first of its lines is too long, or what ended them all."""
        if self._ended is not None:
            raise self._ended
        line = self._line(waiter.deployments[0])
        if (
            len(line) >= self._bounds.requests_max
            or line.count_of(waiter.org) >= self._bounds.org_requests_max
        ):
            raise await self.refusal(waiter)
        for deployment in waiter.deployments:
            self._line(deployment).enter(waiter)

    def enter_again(self, waiter: Waiter) -> None:
        """Who had a turn but found its slot gone stands where it stood."""
        waiter.wait_again()
        if self._ended is not None:
            waiter.fail(self._ended)
            return
        for deployment in waiter.deployments:
            self._line(deployment).enter(waiter, first=True)

    def leave(self, waiter: Waiter) -> None:
        for deployment in waiter.deployments:
            line = self._lines.get(deployment.id)
            if line is not None:
                line.leave(waiter)

    def freed(self, deployment: Deployment) -> None:
        """A request that ran there is on its way to be settled."""
        line = self._lines.get(deployment.id)
        if line is not None:
            line.stir()

    async def refusal(self, waiter: Waiter) -> CapacityExhausted:
        """What one is told that may not wait, or no longer."""
        line = self._line(waiter.deployments[0])
        await line.heard()
        return CapacityExhausted(
            queue_length=line.now_standing().count, retry_after_seconds=line.seconds_to_turn(waiter)
        )

    def end(self, error: GatewayError) -> None:
        """Tells everybody who waits, and who comes from now on."""
        self._ended = error
        for line in list(self._lines.values()):
            for waiter in line:
                self.leave(waiter)
                waiter.fail(error)

    def _line(self, deployment: Deployment) -> Line:
        line = self._lines.get(deployment.id)
        if line is None:
            line = self._lines[deployment.id] = Line(
                self._slots,
                deployment,
                newest=self._newest,
                served=self.leave,
                empty=lambda: self._forget(deployment.id),
            )
        return line

    def _forget(self, deployment_id: str) -> None:
        del self._lines[deployment_id]
