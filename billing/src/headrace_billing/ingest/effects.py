"""What newly stored events change, given what stands already for the same requests.

A request counts once: by its final event, or by its estimate until that comes. So a final event takes back an
estimate that was counted before it, and an estimate that comes after the final one counts nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from headrace_billing.ingest.arrival import EPOCH, Identity, Usage
from headrace_billing.rating.cumulative import Payer, Used, period_of
from headrace_contracts.usage import Disposition, Grade, ServiceTier

HOUR_US = 3_600_000_000
NO_KEY = ""
"""Of what belongs to no API key: what closing a month adds, and usage of which an outside meter knows no key."""


class Effect(NamedTuple):
    usage: Usage
    sign: int
    """+1 counts it, -1 takes it back."""


def effects(inserted: Iterable[Usage], standing: Mapping[str, Usage]) -> list[Effect]:
    """`standing` has, by request, the event of the other grade that was stored by an earlier batch."""
    fresh = {usage.identity: usage for usage in inserted}
    found: list[Effect] = []
    for (request, grade), usage in fresh.items():
        earlier = standing.get(request)
        if grade is Grade.FINAL:
            found.append(Effect(usage, 1))
            if earlier is not None:
                found.append(Effect(earlier, -1))
        elif earlier is None and Identity(request, Grade.FINAL) not in fresh:
            found.append(Effect(usage, 1))
    return found


class RollupKey(NamedTuple):
    hour: datetime
    org: str
    project: str
    key: str
    wallet: str
    currency: str
    model: str
    price_book: str
    disposition: Disposition
    service_tier: ServiceTier
    session: str = ""
    task: str = ""
    end_user: str = ""
    """Empty where a request names none."""


@dataclass(slots=True)
class RollupSums:
    requests: int = 0
    input_uncached: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output_visible: int = 0
    reasoning: int = 0
    list_attos: int = 0
    charge_nanos: int = 0
    """What was posted, or will be in the same transaction."""
    latest_us: int = 0
    """When the last request that changes it was received."""


Rollups = dict[RollupKey, RollupSums]


def rollups(found: Iterable[Effect]) -> Rollups:
    """Signed sums by hour of receipt and whatever a report may group by, not yet rated."""
    sums: Rollups = {}
    hours: dict[int, datetime] = {}
    for usage, sign in found:
        event = usage.event
        number = event.received_at_us // HOUR_US
        hour = hours.get(number)
        if hour is None:
            hour = hours[number] = EPOCH + timedelta(hours=number)
        key = RollupKey(
            hour,
            event.org,
            event.project,
            event.key,
            event.wallet,
            event.currency,
            event.model_served,
            event.price_book,
            event.disposition,
            event.service_tier,
            event.session or "",
            event.task or "",
            event.end_user or "",
        )
        changed = sums.get(key)
        if changed is None:
            changed = sums[key] = RollupSums()
        tokens = event.tokens
        changed.requests += sign
        changed.input_uncached += sign * tokens.input_uncached
        changed.cache_read += sign * tokens.cache_read
        changed.cache_write += sign * tokens.cache_write
        changed.output_visible += sign * tokens.output_visible
        changed.reasoning += sign * tokens.reasoning
        changed.latest_us = max(changed.latest_us, event.received_at_us)
    return sums


def used(sums: Rollups) -> list[Used]:
    """What there is to rate, in the order of the rollups. Each token once, in the class that it is priced by."""
    periods: dict[datetime, date] = {}
    found = []
    for key, changed in sums.items():
        hour = key.hour
        period = periods.get(hour)
        if period is None:
            period = periods[hour] = period_of(hour)
        payer = Payer(period, key.org, key.project, key.wallet, key.currency, key.disposition)
        quantities = (
            changed.input_uncached,
            changed.cache_read,
            changed.cache_write,
            changed.output_visible + changed.reasoning,
        )
        found.append(Used(payer, key.price_book, key.model, key.service_tier, hour, quantities))
    return found
