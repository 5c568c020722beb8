"""From token counts to what an invoice takes: what was used up to an instant, less what invoices have shown already.

Nothing is ever marked as invoiced. Counts of a closed period that have grown since (or shrunk, when a final event
replaced an estimate) are simply not what was invoiced for it, and the difference is an adjustment that names it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from headrace_billing.rating.cumulative import Group
from headrace_billing.rating.price import PriceBook, charge_nanos


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open time of UTC instants: `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        assert self.start < self.end, f"empty span from {self.start} to {self.end}"


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one rated group within one span: the period being closed, or an earlier one."""

    group: Group
    span: Span
    tokens: int


@dataclass(frozen=True, slots=True)
class Portion:
    """A change of a count, and what it changes in the ledger's `unbilled`."""

    group: Group
    span: Span
    tokens: int
    nanos: int


def portions(
    used: Iterable[Counted], invoiced: Iterable[Portion], books: Mapping[str, PriceBook]
) -> list[Portion]:
    """What the next invoice takes out of `unbilled`, by group and span.

    `used` holds every count of the groups in question, also those of closed periods; `invoiced` all that invoices
    have taken. Portions of one group telescope: whatever the order of closes and late events, they add up to the
    charge of the whole, which is what the ledger has posted.
    """
    counts: dict[Group, dict[Span, int]] = {}
    for count in used:
        spans = counts.setdefault(count.group, {})
        spans[count.span] = spans.get(count.span, 0) + count.tokens
    before: dict[Group, int] = {}
    for portion in invoiced:
        spans = counts.setdefault(portion.group, {})
        spans[portion.span] = spans.get(portion.span, 0) - portion.tokens
        before[portion.group] = before.get(portion.group, 0) + portion.tokens

    fresh = []
    for group in sorted(counts):
        cumulative = before.get(group, 0)
        price = books[group.price_book].models[group.model].by_class[group.token_class]
        for span, tokens in sorted(counts[group].items()):
            if tokens:
                nanos = charge_nanos(cumulative + tokens, price) - charge_nanos(cumulative, price)
                fresh.append(Portion(group, span, tokens, nanos))
                cumulative += tokens
    return fresh
