"""How a request ended: what metering is told of it, and what the client still gets once that is done."""

import msgspec

from headrace_contracts.usage import Ending
from headrace_gateway.errors import GatewayError, UpstreamFailed, UpstreamTimedOut
from headrace_gateway.http.interruption import Reason
from headrace_gateway.http.problems import DeadlineReached, InternalError, Revoked, ShuttingDown
from headrace_gateway.routing.upstream.errors import ReplyTooSlow, UpstreamError


class Served(msgspec.Struct, frozen=True):
    ending: Ending
    usage: bytes | None = None
    """Replaces what was noted last while relaying, where it says more."""
    rest: bytes = b""
    """What the client gets after the settlement: a whole body, or the last events of a stream."""
    problem: GatewayError | None = None
    """Told to the client as its answer, or as a stream's last event; null when it has gone, or all is well."""
    elsewhere: bool = False
    """Whether nothing of an answer has come, and another deployment may be asked."""


class NotBegun(Exception):
    """The engine could not be brought to begin an answer."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(str(error))
        self.error = error


def interrupted(reason: Reason) -> Served:
    match reason:
        case Reason.CLIENT_GONE:
            return Served(Ending.CLIENT_GONE)
        case Reason.REVOKED:
            return Served(Ending.BUDGET_STOPPED, problem=Revoked())
        case Reason.DEADLINE:
            return Served(Ending.TIMED_OUT, problem=DeadlineReached("The request took longer than it may."))
        case Reason.SHUTDOWN:
            return Served(Ending.GATEWAY_LOST, problem=ShuttingDown())


def refused(error: GatewayError, *, elsewhere: bool = False) -> Served:
    timed_out = isinstance(error, UpstreamTimedOut)
    ending = Ending.TIMED_OUT if timed_out else Ending.UPSTREAM_FAILED
    return Served(ending, problem=error, elsewhere=elsewhere)


def broken(error: UpstreamError) -> Served:
    if isinstance(error, ReplyTooSlow):
        return refused(UpstreamTimedOut("The model stopped answering."))
    return refused(UpstreamFailed("The model's answer broke off."))


def unforeseen() -> Served:
    return Served(Ending.UPSTREAM_FAILED, problem=InternalError())
