"""What other prices would have billed for usage that has been: rating as it is, on stored quantities, posting nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from headrace_billing.rating.book import PriceBook
from headrace_billing.rating.cumulative import Group, Payer
from headrace_billing.rating.price import TokenClass
from headrace_billing.rating.schedule import charge_nanos
from headrace_contracts.usage import ServiceTier


@dataclass(frozen=True, slots=True)
class Used:
    """A payer's tokens of one model, in hours that are alike to every price book."""

    payer: Payer
    model: str
    service_tier: ServiceTier
    hour: datetime
    """One of those hours, or one of the same hour of the week."""
    tokens: Mapping[TokenClass, int]
    charge_nanos: int
    """What was posted for them."""


@dataclass(slots=True)
class Bill:
    billed_nanos: int = 0
    would_bill_nanos: int = 0


@dataclass(slots=True)
class Preview:
    by_org: dict[str, Bill] = field(default_factory=dict)
    not_priced: set[str] = field(default_factory=set)
    """Models that were used and that the other prices don't name; they would not have been sold."""


def preview(
    used: Iterable[Used], *, general: PriceBook, own: Mapping[str, PriceBook], whole_months: set[date]
) -> Preview:
    """`own` has the books of organisations with prices of their own; `whole_months` those rated as closed."""
    found = Preview()
    quantities: dict[Group, int] = {}
    books = {general.id: general, **{book.id: book for book in own.values()}}
    for one in used:
        bill = found.by_org.setdefault(one.payer.org, Bill())
        bill.billed_nanos += one.charge_nanos
        book = own.get(one.payer.org, general)
        if one.model not in book.models:
            found.not_priced.add(one.model)
            continue
        for token_class, tokens in one.tokens.items():
            if tokens:
                line = book.line(one.model, token_class, at=one.hour, tier=one.service_tier)
                group = Group(one.payer, book.id, one.model, line)
                quantities[group] = quantities.get(group, 0) + tokens
    for group, quantity in quantities.items():
        schedule = books[group.price_book].schedule(group.model, group.line)
        nanos = charge_nanos(quantity, schedule, closed=group.payer.period in whole_months)
        found.by_org[group.payer.org].would_bill_nanos += nanos
    return found
