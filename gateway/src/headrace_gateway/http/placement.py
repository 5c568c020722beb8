"""From a call to a lease: admitted at once where there is room, else when its turn has come.

What must stay true: nobody waits for longer than is said, or once its key has ended; a client that goes while it waits
leaves nothing.
"""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from headrace_gateway.call import Call, Caller, DeploymentFull, Lease, Meter
from headrace_gateway.errors import GatewayError
from headrace_gateway.http.exchange import ClientGone, Exchange
from headrace_gateway.http.interruption import Running, while_valid
from headrace_gateway.routing.line import Waiter
from headrace_gateway.routing.lines import Lines

LINES_MAX = 4
"""That one request stands in at once."""


class Placement:
    def __init__(self, meter: Meter, lines: Lines, waiting: Running) -> None:
        self._meter = meter
        self._lines = lines
        self._waiting = waiting

    async def admit(self, exchange: Exchange, caller: Caller, calls: Sequence[Call]) -> tuple[Lease, Call]:
        """`calls`: the same request at each deployment that would do, best first.

        Raises what the meter raises, `CapacityExhausted` when no slot came free in time, `Revoked`, or `ClientGone`.
        """
        full = []
        for call in calls:
            if call.deployment.slots is not None and self._lines.waits_for(call.deployment):
                full.append(call)
                continue
            try:
                return await self._meter.admit(call), call
            except DeploymentFull:
                full.append(call)
            except GatewayError:
                # One that would do instead, and doesn't: that is not what the client asked for.
                if not full and (not call.instead or call is calls[-1]):
                    raise
        return await self._wait(exchange, caller, full[:LINES_MAX])

    async def _wait(self, exchange: Exchange, caller: Caller, calls: Sequence[Call]) -> tuple[Lease, Call]:
        lines = self._lines
        waiter = Waiter(
            [call.deployment for call in calls], rank=caller.rank, org=caller.org, weight=caller.weight
        )
        await lines.enter(waiter)
        outcome = "served"
        until = waiter.since + lines.wait_seconds(waiter.deployments[0])
        try:
            async with while_valid(self._meter, calls[0].credentials, self._waiting):
                return await self._served(exchange, waiter, calls, until)
        except (ClientGone, asyncio.CancelledError):
            outcome = "gone"
            raise
        except GatewayError:
            outcome = "refused"
            raise
        finally:
            exchange.when_gone(None)
            lines.leave(waiter)
            waiter.decline()
            waited = asyncio.get_running_loop().time() - waiter.since
            self._meter.requests.waited(waiter.deployments[0], outcome, waited)

    async def _served(
        self, exchange: Exchange, waiter: Waiter, calls: Sequence[Call], until: float
    ) -> tuple[Lease, Call]:
        lines = self._lines
        while True:
            exchange.when_gone(lambda: waiter.fail(ClientGone()))
            await asyncio.wait((waiter.turn,), timeout=until - asyncio.get_running_loop().time())
            if not waiter.turn.done():
                lines.leave(waiter)
                raise await lines.refusal(waiter)
            line = waiter.take_turn()
            call = next(each for each in calls if each.deployment.id == line.deployment.id)
            # Its slots may have been changed meanwhile, and those are what the line goes by.
            call = replace(call, deployment=line.deployment, has_turn=True)
            try:
                return await self._meter.admit(call), call
            except DeploymentFull:
                lines.enter_again(waiter)
            except GatewayError:
                others = [each for each in calls if each.deployment.id != line.deployment.id]
                if not others or call.deployment.id == calls[0].deployment.id:
                    raise
                calls = others
                waiter.deployments = [each.deployment for each in calls]
                lines.enter_again(waiter)
            finally:
                line.tried()
