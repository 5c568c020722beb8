"""Rating what is cumulative and billing the difference, so that no split into batches changes a total.

A group adds up over a calendar month (UTC) of the instants at which requests were received.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from headrace_billing.rating.book import PriceBook, PriceLine
from headrace_billing.rating.price import quantities
from headrace_billing.rating.schedule import charge_nanos
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
    line: PriceLine


@dataclass(frozen=True, slots=True)
class Rated:
    quantity: int
    charge_nanos: int
    closed: bool = False
    """The month's account was closed: minimum and begun package are in the charge, and stay right in it."""


NOTHING = Rated(0, 0)


@dataclass(frozen=True, slots=True)
class Change:
    source: int
    """Which of the events it comes from."""
    group: Group
    quantity: int
    """Signed."""


def period_of(received_at: datetime) -> date:
    """First day of the UTC month."""
    return received_at.date().replace(day=1)


def payer_of(event: UsageEvent, received_at: datetime) -> Payer:
    return Payer(
        period_of(received_at), event.org, event.project, event.wallet, event.currency, event.disposition
    )


def changes(
    events: Iterable[tuple[UsageEvent, datetime, int]], books: Mapping[str, PriceBook]
) -> list[Change]:
    """Each event comes with the instant it was received and +1 or -1."""
    found = []
    for source, (event, received_at, sign) in enumerate(events):
        payer, book = payer_of(event, received_at), books[event.price_book]
        for token_class, quantity in quantities(event.tokens).items():
            if quantity:
                line = book.line(event.model_served, token_class, at=received_at, tier=event.service_tier)
                group = Group(payer, event.price_book, event.model_served, line)
                found.append(Change(source, group, sign * quantity))
    return found


def rate(
    standing: Mapping[Group, Rated], changed: Iterable[Change], books: Mapping[str, PriceBook]
) -> tuple[dict[Group, Rated], dict[int, int]]:
    """What each changed group is rated at from now on, and what each source added to the charge.

    The sources' nano-units add up to the difference exactly: each is what the cumulative charge moved by.
    """
    rated: dict[Group, Rated] = {}
    added: dict[int, int] = {}
    # What is taken back comes last, so that no quantity on the way is below zero.
    for change in sorted(changed, key=lambda change: change.quantity < 0):
        group = change.group
        before = rated.get(group) or standing.get(group, NOTHING)
        quantity = before.quantity + change.quantity
        schedule = books[group.price_book].schedule(group.model, group.line)
        charge = charge_nanos(quantity, schedule, closed=before.closed)
        rated[group] = Rated(quantity, charge, before.closed)
        added[change.source] = added.get(change.source, 0) + charge - before.charge_nanos
    return rated, added


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
