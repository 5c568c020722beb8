"""Getting an engine to begin its reply: a request may be tried again only while nothing of a reply has come.

Each attempt has an engine request id of its own, so that the engine's record of an abandoned one is told apart.
"""

import asyncio

import structlog

from headrace_contracts.deployments import Deployment
from headrace_gateway.call import Lease
from headrace_gateway.errors import UpstreamBusy, UpstreamFailed, UpstreamTimedOut
from headrace_gateway.routing.breaker import Breakers, RetryBudget
from headrace_gateway.routing.upstream.client import Upstream
from headrace_gateway.routing.upstream.errors import (
    ConnectionsExhausted,
    ReplyTooSlow,
    StaleConnection,
    Unreachable,
    UpstreamError,
)
from headrace_gateway.routing.upstream.reply import Reply

log = structlog.get_logger()

ATTEMPTS_MAX = 2
"""A kept connection that had just closed, or a replica that had just gone: once more finds another."""

PAUSE_SECONDS = 0.05
"""Long enough for Ray Serve's proxy to learn that a replica went away."""

UNAVAILABLE = frozenset({502, 503})
"""What a proxy in front of an engine answers when no replica took the request."""

FAILING = 500
"""From this status on it is the engine that fails. One that says so itself is there, and may fail at this request alone."""

BUSY = 503
"""Which it may be without failing: to leave it alone then would let it run empty."""

OUT_OF_REACH = frozenset({502, 504})
"""What a proxy before it says, which got no answer from it."""


class Attempts:
    def __init__(self, upstream: Upstream, breakers: Breakers, budget: RetryBudget) -> None:
        self._upstream = upstream
        self._breakers = breakers
        self._budget = budget

    async def begin_reply(
        self,
        lease: Lease,
        deployment: Deployment,
        *,
        org: str,
        again: bool,
        path: str,
        headers: bytes,
        body: bytes,
        content_type: bytes,
    ) -> Reply:
        """The first reply of the engine that is not a refusal to serve at all; close it when done.

        `again`: whether it was tried at another deployment before.
        """
        breakers = self._breakers
        breakers.begin(deployment, org)
        self._budget.deposit()
        try:
            reply = await self._reply(lease, deployment, path, headers, body, content_type=content_type)
        except (UpstreamFailed, UpstreamTimedOut):
            breakers.fail(deployment, org)
            raise
        except BaseException:
            breakers.abandon(deployment, org)
            raise
        if reply.status < FAILING:
            breakers.succeed(deployment, org)
        elif reply.status in OUT_OF_REACH:
            breakers.fail(deployment, org)
        elif reply.status == BUSY or again:
            # A request that fails wherever it is sent counts at one place.
            breakers.abandon(deployment, org)
        else:
            breakers.fail_for(deployment, org)
        return reply

    async def _reply(
        self,
        lease: Lease,
        deployment: Deployment,
        path: str,
        headers: bytes,
        body: bytes,
        *,
        content_type: bytes,
    ) -> Reply:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            last = attempt == ATTEMPTS_MAX
            lines = b"%bx-request-id: %b\r\n" % (headers, lease.attempt().encode())
            try:
                reply = await self._upstream.post(deployment.url, path, lines, body, content_type)
            except StaleConnection as error:
                # The engine closed it as we wrote, which is no failure of its.
                if not last:
                    continue
                raise _failed(lease, deployment, error) from error
            except Unreachable as error:
                if not last and self._budget.spend_at_the_same():
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                raise _failed(lease, deployment, error) from error
            except ReplyTooSlow as error:
                log.warning("upstream_too_slow", request=lease.id, deployment=deployment.id)
                raise UpstreamTimedOut("The model did not begin to answer in time.") from error
            except ConnectionsExhausted as error:
                raise UpstreamBusy from error
            except UpstreamError as error:
                raise _failed(lease, deployment, error) from error
            if reply.status in UNAVAILABLE and not last and self._budget.spend_at_the_same():
                reply.close()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            return reply
        raise AssertionError("the last attempt returns or raises")


def _failed(lease: Lease, deployment: Deployment, error: UpstreamError) -> UpstreamFailed:
    log.warning("upstream_failed", request=lease.id, deployment=deployment.id, error=str(error))
    return UpstreamFailed("The model could not be reached.")
