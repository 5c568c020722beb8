"""Rating what is cumulative and billing the difference, so that no split into batches changes a total.

A group adds up over a calendar month (UTC) of the instants at which requests were received.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from headrace_billing.rating.book import PriceBook, PriceLine
from headrace_billing.rating.price import TokenClass
from headrace_billing.rating.schedule import Schedule, charge_nanos
from headrace_contracts.usage import Disposition, ServiceTier


class Payer(NamedTuple):
    """Whose charges are posted together."""

    period: date
    org: str
    project: str
    wallet: str
    currency: str
    disposition: Disposition


class Group(NamedTuple):
    """Whose quantity is rated as one."""

    payer: Payer
    price_book: str
    model: str
    line: PriceLine


class Rated(NamedTuple):
    quantity: int
    charge_nanos: int
    closed: bool = False
    """The month's account was closed: minimum and begun package are in the charge, and stay right in it."""


NOTHING = Rated(0, 0)


class Used(NamedTuple):
    """Tokens of one payer and one hour."""

    payer: Payer
    price_book: str
    model: str
    service_tier: ServiceTier
    hour: datetime
    """By whole hours a price can change, and by nothing finer."""
    quantities: tuple[int, int, int, int]
    """Signed, in the order of `TokenClass`."""


class Change(NamedTuple):
    source: int
    """Which of what was used it comes from."""
    group: Group
    quantity: int
    """Signed."""


def period_of(received_at: datetime) -> date:
    """First day of the UTC month."""
    return received_at.date().replace(day=1)


def changes(used: Iterable[Used], books: Mapping[str, PriceBook]) -> list[Change]:
    found = []
    groups: dict[tuple[object, ...], list[Group]] = {}
    for source, one in enumerate(used):
        place = one[:-1]
        known = groups.get(place)
        if known is None:
            book = books[one.price_book]
            known = groups[place] = [_group(one, token_class, book) for token_class in TokenClass]
        for group, quantity in zip(known, one.quantities, strict=True):
            if quantity:
                found.append(Change(source, group, quantity))
    return found


def _group(one: Used, token_class: TokenClass, book: PriceBook) -> Group:
    line = book.line(one.model, token_class, at=one.hour, tier=one.service_tier)
    return Group(one.payer, one.price_book, one.model, line)


@dataclass(slots=True)
class _Running:
    schedule: Schedule
    quantity: int
    charge_nanos: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Charges:
    """By source, as long as the list of what was used."""

    nanos: list[int]
    """What each added to the charge; they add up to the difference exactly."""
    list_attos: list[int]
    """What each is worth before tiers, minimum and maximum; adds up without rounding."""


def rate(
    standing: Mapping[Group, Rated],
    changed: Iterable[Change],
    books: Mapping[str, PriceBook],
    *,
    sources: int,
) -> tuple[dict[Group, Rated], Charges]:
    """What each changed group is rated at from now on, and what each source added."""
    running: dict[Group, _Running] = {}
    charges = Charges([0] * sources, [0] * sources)
    # What is taken back comes last, so that no quantity on the way is below zero.
    for source, group, change in sorted(changed, key=_taken_back):
        run = running.get(group)
        if run is None:
            before = standing.get(group, NOTHING)
            schedule = books[group.price_book].schedule(group.model, group.line)
            run = running[group] = _Running(schedule, before.quantity, before.charge_nanos, before.closed)
        run.quantity += change
        nanos = charge_nanos(run.quantity, run.schedule, closed=run.closed)
        charges.nanos[source] += nanos - run.charge_nanos
        charges.list_attos[source] += change * run.schedule.ceiling_rate
        run.charge_nanos = nanos
    rated = {group: Rated(run.quantity, run.charge_nanos, run.closed) for group, run in running.items()}
    return rated, charges


def _taken_back(change: Change) -> bool:
    return change.quantity < 0


def close(standing: Mapping[Group, Rated], books: Mapping[str, PriceBook]) -> dict[Group, Rated]:
    """The groups that closing their month's account changes."""
    closed = {}
    for group, before in standing.items():
        schedule = books[group.price_book].schedule(group.model, group.line)
        if schedule.waits_for_the_close and not before.closed:
            closed[group] = Rated(
                before.quantity, charge_nanos(before.quantity, schedule, closed=True), closed=True
            )
    return closed
