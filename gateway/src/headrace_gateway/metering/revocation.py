"""Requests whose key has ended: stopped within a second, whatever they wait for.

Their slices may be far, an engine may take its time to the first token, and a plain request has no slices at all: so
each is told, and not asked at its next token. One without a lease, that waits for a slot or sends a long body, too.
"""

import time

from headrace_gateway.errors import LimitsRebuilding, LimitsUnavailable
from headrace_gateway.keys.authorisation import KEY_ENDED
from headrace_gateway.metering.admission import GatewayMeter
from headrace_gateway.metering.lease import RunningLease
from headrace_gateway.metering.watch import Watch
from headrace_gateway.valkey.errors import ValkeyError

PERIOD_SECONDS = 0.5


async def end_revoked(meter: GatewayMeter) -> None:
    """One call, however many requests run, and one reading for each key that changed. Raises `ValkeyError`."""
    known: list[RunningLease | Watch] = [*meter.running.values(), *meter.watches]
    leases = [lease for lease in known if not lease.revoked.is_set()]
    versions = list({(record.hash_key, record.version) for lease in leases for record in lease.records})
    if not versions:
        return
    now_us = time.time_ns() // 1000
    try:
        changed = {hash_key for hash_key, _ in await meter.limiter.changed(versions)}
    except ValkeyError:
        # When a key expires is known without asking.
        for lease in leases:
            if lease.expired(now_us):
                lease.end()
        raise
    by_key: dict[str, list[RunningLease | Watch]] = {}
    for lease in leases:
        if lease.expired(now_us) or not changed.isdisjoint(record.hash_key for record in lease.records):
            by_key.setdefault(lease.records[0].hash_key, []).append(lease)
    for of_one in by_key.values():
        try:
            records = await meter.reauthorise(of_one[0].records, stale=changed)
        except KEY_ENDED:
            for lease in of_one:
                lease.end()
        except (LimitsRebuilding, LimitsUnavailable):
            pass  # the next round finds out
        else:
            for lease in of_one:
                lease.records = records
