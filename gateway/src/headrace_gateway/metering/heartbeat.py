"""What every gateway does once a second: renew its leases, hear what billing has, and reap the dead.

A lease that was reaped ends its stream: it is settled already, to what the last heartbeat said. One that
was lost with Valkey's memory is registered again, and its stream never notices.
"""

from collections.abc import Sequence

import structlog

from headrace_gateway.limits import plan
from headrace_gateway.limits.limiter import Pulse
from headrace_gateway.metering.admission import GatewayMeter
from headrace_gateway.metering.resend import Unacknowledged
from headrace_gateway.valkey.errors import ValkeyError

log = structlog.get_logger()

# A script holds Valkey up while it runs: so many leases are about a millisecond.
LEASES_A_CALL_MAX = 200

# A crash loop may leave many; the rest is asked about when the first are done.
JOURNALS_A_CALL_MAX = 100


async def beat(meter: GatewayMeter, dead: Sequence[Unacknowledged]) -> None:
    """One heartbeat. Raises `ValkeyError`, having noted that nothing can be admitted."""
    meter.journal.mark()
    journals: list[Unacknowledged] = [meter.journal, *dead[: JOURNALS_A_CALL_MAX - 1]]
    leases = list(meter.running.values())
    try:
        for first in range(0, max(1, len(leases)), LEASES_A_CALL_MAX):
            asked = journals if first == 0 else []
            chunk = [
                lease for lease in leases[first : first + LEASES_A_CALL_MAX] if lease.id in meter.running
            ]
            pulse = await meter.limiter.heartbeat(
                [lease.renewal() for lease in chunk], [journal.name for journal in asked]
            )
            for journal, sequence in zip(asked, pulse.acknowledged, strict=True):
                journal.acknowledge(sequence)
            await _hear(meter, pulse)
    except ValkeyError:
        meter.not_ready = "limits_unavailable"
        raise
    meter.not_ready = None if pulse.warm else "limits_rebuilding"


async def _hear(meter: GatewayMeter, pulse: Pulse) -> None:
    # What was settled while the heartbeat was under way is no longer running, and no concern.
    for request_id in pulse.reaped:
        lease = meter.running.get(request_id)
        if lease is not None and not lease.revoked.is_set():
            log.warning("lease_reaped", request=request_id)
            lease.revoked.set()
    for request_id in pulse.used_up:
        lease = meter.running.get(request_id)
        if lease is not None:
            lease.stop()
    if not pulse.loaded:
        return
    for request_id in pulse.lost:
        lease = meter.running.get(request_id)
        if lease is not None:
            log.warning("lease_registered_again", request=request_id)
            await meter.limiter.register(
                lease.renewal(),
                plan.to_register(lease.limits),
                hold=lease.hold(),
                fragment=lease.identity,
                admitted_at_us=lease.admitted_at_us,
            )
