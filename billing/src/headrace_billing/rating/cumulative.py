"""Rating what is cumulative and billing the difference, so that no split into batches changes a total.

A group adds up over a calendar month (UTC) of the instants at which requests were received.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from headrace_billing.rating.price import PriceBook, TokenClass, charge_nanos, quantities
from headrace_contracts.usage import Disposition, UsageEvent


@dataclass(frozen=True, slots=True, order=True)
class Payer:
    """Whose charges are posted together."""

    period: date
    org: str
    project: str
    wallet: str
    currency: str
    disposition: Disposition


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """Whose quantity is rated as one."""

    payer: Payer
    price_book: str
    model: str
    token_class: TokenClass


@dataclass(frozen=True, slots=True)
class Rated:
    quantity: int
    charge_nanos: int


NOTHING = Rated(0, 0)


def period_of(received_at: datetime) -> date:
    """First day of the UTC month."""
    return received_at.date().replace(day=1)


def payer_of(event: UsageEvent, received_at: datetime) -> Payer:
    return Payer(
        period_of(received_at), event.org, event.project, event.wallet, event.currency, event.disposition
    )


def changes(events: Iterable[tuple[UsageEvent, datetime, int]]) -> dict[Group, int]:
    """Signed quantities by group; each event comes with the instant it was received and +1 or -1."""
    sums: dict[Group, int] = {}
    for event, received_at, sign in events:
        payer = payer_of(event, received_at)
        for token_class, quantity in quantities(event.tokens).items():
            if quantity:
                group = Group(payer, event.price_book, event.model_served, token_class)
                sums[group] = sums.get(group, 0) + sign * quantity
    return {group: change for group, change in sums.items() if change}


def rate(
    standing: Mapping[Group, Rated], change: Mapping[Group, int], books: Mapping[str, PriceBook]
) -> dict[Group, Rated]:
    """What each changed group is rated at from now on."""
    rated = {}
    for group, quantity in change.items():
        total = standing.get(group, NOTHING).quantity + quantity
        price = books[group.price_book].models[group.model].by_class[group.token_class]
        rated[group] = Rated(total, charge_nanos(total, price))
    return rated


def deltas(standing: Mapping[Group, Rated], rated: Mapping[Group, Rated]) -> dict[Payer, int]:
    """What remains to be posted, in nano-units by payer, leaving out those who owe nothing new."""
    sums: dict[Payer, int] = {}
    for group, now in rated.items():
        delta = now.charge_nanos - standing.get(group, NOTHING).charge_nanos
        sums[group.payer] = sums.get(group.payer, 0) + delta
    return {payer: nanos for payer, nanos in sums.items() if nanos}
