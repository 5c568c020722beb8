"""How an exchange with an engine fails, by what may be done about it."""


class UpstreamError(Exception):
    """Base of what goes wrong between the gateway and an engine; clients never see it as it is."""


class Unreachable(UpstreamError):
    """No connection came about, so the engine has seen nothing of the request."""


class ConnectionsExhausted(UpstreamError):
    """All connections that this process may have to the engine are in use."""


class StaleConnection(UpstreamError):
    """A kept connection turned out to be closed before a byte of the reply came."""


class ReplyBroken(UpstreamError):
    """The reply broke off, or is no HTTP."""


class ReplyTooLarge(UpstreamError):
    """The reply has more bytes than we are ready to hold."""


class ReplyTooSlow(UpstreamError):
    """No byte came for as long as we are ready to wait."""
