"""What newly stored events change, given what stands already for the same requests.

A request counts once: by its final event, or by its estimate until that comes. So a final event takes back an
estimate that was counted before it, and an estimate that comes after the final one counts nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from headrace_billing.ingest.arrival import CHARGED, Usage
from headrace_billing.rating.book import PriceBook, list_attos
from headrace_contracts.usage import Disposition, Grade, ServiceTier, TokenCounts


@dataclass(frozen=True, slots=True)
class Effect:
    usage: Usage
    sign: int
    """+1 counts it, -1 takes it back."""


def effects(inserted: Iterable[Usage], standing: Mapping[UUID, Usage]) -> list[Effect]:
    """`standing` has, by id, the event of the other grade that was stored by an earlier batch."""
    fresh = {usage.identity: usage for usage in inserted}
    found: list[Effect] = []
    for (request, grade), usage in fresh.items():
        earlier = standing.get(request)
        if grade is Grade.FINAL:
            found.append(Effect(usage, 1))
            if earlier is not None:
                found.append(Effect(earlier, -1))
        elif earlier is None and (request, Grade.FINAL) not in fresh:
            found.append(Effect(usage, 1))
    return found


@dataclass(frozen=True, slots=True, order=True)
class RollupKey:
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
    """Empty where a request names none."""


@dataclass(slots=True)
class RollupSums:
    requests: int = 0
    tokens: TokenCounts = field(default_factory=TokenCounts)
    list_attos: int = 0
    charge_nanos: int = 0
    """What was posted, or will be in the same transaction."""

    def add(self, tokens: TokenCounts, attos: int, nanos: int, sign: int) -> None:
        self.requests += sign
        self.tokens = TokenCounts(
            **{
                name: getattr(self.tokens, name) + sign * getattr(tokens, name)
                for name in TokenCounts.__struct_fields__
            }
        )
        self.list_attos += sign * attos
        self.charge_nanos += nanos


Rollups = dict[RollupKey, RollupSums]


def rollups(found: Sequence[Effect], charges: Mapping[int, int], books: Mapping[str, PriceBook]) -> Rollups:
    """Signed sums by hour of receipt and whatever a report may group by.

    `charges` has what each effect, by its place, added to the charge of its groups.
    """
    sums: Rollups = {}
    for place, effect in enumerate(found):
        event, received_at = effect.usage.event, effect.usage.received_at
        key = RollupKey(
            received_at.replace(minute=0, second=0, microsecond=0),
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
        )
        attos = list_attos(
            event.tokens,
            books[event.price_book],
            event.model_served,
            at=received_at,
            tier=event.service_tier,
        )
        nanos = charges.get(place, 0) if event.disposition in CHARGED else 0
        sums.setdefault(key, RollupSums()).add(event.tokens, attos, nanos, effect.sign)
    return sums
