"""The gateways' own Valkey keys; README.md beside this has them in a table."""

from headrace_contracts import channels
from headrace_contracts.access import LimitKind

LEASES = "hr:leases"
REAPER = "hr:reaper"

SCRIPT_KEYS = (
    channels.EPOCH,
    channels.USAGE,
    channels.ACKNOWLEDGED,
    channels.GATEWAYS,
    LEASES,
    REAPER,
)
"""What every script gets as KEYS, in the order that scripts/prelude.lua names them."""


def counter(kind: LimitKind, scope: str, scope_id: str) -> str:
    return f"hr:limit:{kind.value}:{scope}:{scope_id}"
