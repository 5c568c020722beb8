"""The gateways' own Valkey keys; README.md beside this has them in a table."""

from headrace_contracts import channels

LEASES = "hr:leases"
REAPER = "hr:reaper"
REAPED = "hr:reaped"


def idempotent(project: str, key: str) -> str:
    """What became of the request with this idempotency key."""
    return f"hr:idempotent:{project}:{key}"


def idempotent_bytes(counted_with: str) -> str:
    """How much is kept of an organisation's answers."""
    return f"hr:idempotent-bytes:{counted_with}"


def idempotent_bytes_of_all(kept_seconds: int) -> str:
    """How much is kept of everybody's answers that are kept so long."""
    return f"hr:idempotent-bytes:all:{kept_seconds}"


KEYS_OF_SCRIPTS = {
    "EPOCH": channels.EPOCH,
    "USAGE": channels.USAGE,
    "ACKNOWLEDGED": channels.ACKNOWLEDGED,
    "GATEWAYS": channels.GATEWAYS,
    "LEASES": LEASES,
    "REAPER": REAPER,
    "REAPED": REAPED,
    "OPENING": channels.OPENING,
}
"""What every script reads or writes, by the name that it has there."""
