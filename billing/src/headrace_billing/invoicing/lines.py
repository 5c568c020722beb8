"""Invoice lines. Each amount is rounded once, from the exact product of its quantity and price."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from headrace_billing.charges.charge import Charge
from headrace_billing.ingest.arrival import PAID_AHEAD
from headrace_billing.invoicing.amounts import minor_of_nanos, minor_of_tokens
from headrace_billing.invoicing.usage import Portion, Span
from headrace_billing.ledger.transaction import AccountKind
from headrace_billing.outcomes.outcome import AcceptedAs
from headrace_billing.rating.book import PriceBook, PriceLine
from headrace_billing.rating.definition import Definition, written_schedule
from headrace_billing.rating.price import TokenClass
from headrace_contracts.usage import ServiceTier


class LineKind(StrEnum):
    TOKENS = "tokens"
    ADJUSTMENT = "adjustment"  # tokens of a period that was closed before they were known
    OUTCOME = "outcome"
    CHARGE = "charge"  # for a time: a plan's fee, GPU time, a credit


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Where in the books the seller's side of a line stands, and which charge it is of."""

    account: AccountKind
    charge: str | None = None


TOKENS = Source(AccountKind.REVENUE_TOKENS)
OUTCOMES = Source(AccountKind.REVENUE_OUTCOMES)


def source_of(kind: LineKind, charge: Charge | None) -> Source:
    if charge is not None:
        return Source(charge.account, charge.id)
    return OUTCOMES if kind is LineKind.OUTCOME else TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    kind: LineKind
    quantity: int
    amount_minor: int
    exact_nanos: int
    """What the ledger has in `unbilled` for it; the difference to the amount is rounding."""
    prepaid: bool
    """Credit paid for it when it was used."""
    project: str | None = None
    model: str | None = None
    price_book: str | None = None
    token_class: TokenClass | None = None
    price_window: str = ""
    service_tier: ServiceTier = ServiceTier.STANDARD
    price_per_million: str | None = None
    """Null where more than one price made the amount."""
    schedule: Definition | None = None
    """What made the amount, where it was more than one price."""
    month: date | None = None
    """Which month's quantity the schedule goes by."""
    span: Span | None = None
    """The period that an adjustment is for."""
    outcome_type: str | None = None
    outcome_label: str | None = None
    accepted_as: AcceptedAs | None = None
    unit_price_nanos: int | None = None
    charge: Charge | None = None

    @property
    def source(self) -> Source:
        return source_of(self.kind, self.charge)


def token_lines(
    portions: Iterable[Portion], *, period: Span, currency: str, books: Mapping[str, PriceBook]
) -> list[Line]:
    """One line a project, model, price book, price line and payer; what belongs to earlier periods stands apart.

    Where quantity times price is not the whole truth, a month has a line of its own.
    """
    sums: dict[Place, tuple[int, int]] = {}
    for portion in portions:
        group = portion.group
        tariff = books[group.price_book].tariff(group.model, group.line)
        place = _place(portion, period, plain=tariff.is_plain)
        quantity, exact = sums.get(place, (0, 0))
        sums[place] = quantity + portion.tokens, exact + portion.nanos
    lines = []
    for place in sorted(sums, key=_order):
        quantity, exact = sums[place]
        if quantity == 0 and exact == 0:
            continue
        tariff = books[place.price_book].tariff(place.model, place.line)
        schedule = tariff.schedule
        written = None if tariff.is_plain else written_schedule(schedule)
        lines.append(
            Line(
                kind=LineKind.TOKENS if place.late is None else LineKind.ADJUSTMENT,
                quantity=quantity,
                amount_minor=minor_of_tokens(quantity, schedule.tiers[0].price, currency)
                if tariff.is_plain
                else minor_of_nanos(exact, currency),
                exact_nanos=exact,
                prepaid=place.prepaid,
                project=place.project,
                model=place.model,
                price_book=place.price_book,
                token_class=place.line.token_class,
                price_window=place.line.window,
                service_tier=place.line.service_tier,
                price_per_million=tariff.price,
                schedule=written if isinstance(written, dict) else None,
                month=place.month,
                span=place.late,
            )
        )
    return lines


class Place(NamedTuple):
    """What has a line of its own."""

    late: Span | None
    project: str
    model: str
    price_book: str
    prepaid: bool
    line: PriceLine
    month: date | None


def _place(portion: Portion, period: Span, *, plain: bool) -> Place:
    group = portion.group
    return Place(
        late=None if portion.span == period else portion.span,
        project=group.payer.project,
        model=group.model,
        price_book=group.price_book,
        prepaid=group.payer.disposition in PAID_AHEAD,
        line=group.line,
        month=None if plain else group.payer.period,
    )


def _order(place: Place) -> tuple[object, ...]:
    """This period's usage first, then earlier ones by time; classes as a price list has them."""
    return (
        place.late is not None,
        "" if place.late is None else place.late.start.isoformat(),
        place.project,
        place.model,
        place.price_book,
        place.prepaid,
        place.line.window,
        place.line.service_tier is not ServiceTier.STANDARD,
        CLASS_ORDER[place.line.token_class],
        place.month or date.min,
    )


CLASS_ORDER = {token_class: number for number, token_class in enumerate(TokenClass)}


@dataclass(frozen=True, slots=True)
class AcceptedOutcome:
    """An accepted outcome that no invoice shows yet."""

    id: str
    outcome_type: str
    label: str
    price_nanos: int
    accepted_as: AcceptedAs
    prepaid: bool


def outcome_lines(outcomes: Iterable[AcceptedOutcome], *, currency: str) -> list[Line]:
    """One line a version of an outcome type and payer, with the confirmed apart from the deemed."""
    groups: dict[tuple[str, str, int, AcceptedAs, bool], int] = {}
    for outcome in outcomes:
        place = (
            outcome.label,
            outcome.outcome_type,
            outcome.price_nanos,
            outcome.accepted_as,
            outcome.prepaid,
        )
        groups[place] = groups.get(place, 0) + 1
    return [
        Line(
            kind=LineKind.OUTCOME,
            quantity=count,
            amount_minor=minor_of_nanos(count * price_nanos, currency),
            exact_nanos=count * price_nanos,
            prepaid=prepaid,
            outcome_type=outcome_type,
            outcome_label=label,
            accepted_as=accepted_as,
            unit_price_nanos=price_nanos,
        )
        for (label, outcome_type, price_nanos, accepted_as, prepaid), count in sorted(groups.items())
    ]


def charge_lines(charges: Iterable[Charge]) -> list[Line]:
    """One line each, in the order in which they happened."""
    return [
        Line(
            kind=LineKind.CHARGE,
            quantity=charge.quantity,
            amount_minor=minor_of_nanos(charge.amount_nanos, charge.currency),
            exact_nanos=charge.amount_nanos,
            prepaid=False,
            project=charge.project,
            charge=charge,
        )
        for charge in charges
    ]
