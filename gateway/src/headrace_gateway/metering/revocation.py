"""Running streams whose key or project was changed: asked again at their next token, so that a revoked key stops
everywhere within a second and not only at the end of a slice, which may be far."""

from headrace_gateway.metering.admission import GatewayMeter

PERIOD_SECONDS = 0.5


async def look_for_changes(meter: GatewayMeter) -> None:
    """One call, however many streams there are. Raises `ValkeyError`."""
    leases = [
        (lease, [(record.hash_key, record.version) for record in lease.records])
        for lease in meter.running.values()
    ]
    versions = list({version for _, records in leases for version in records})
    if not versions:
        return
    changed = await meter.limiter.changed(versions)
    for lease, records in leases:
        if not changed.isdisjoint(records):
            lease.reconsider()
