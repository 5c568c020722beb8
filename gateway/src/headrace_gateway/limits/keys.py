"""The gateways' own Valkey keys; README.md beside this has them in a table."""

from headrace_contracts import channels

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
