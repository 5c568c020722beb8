"""From token counts to what an invoice takes: what was used up to an instant, less what invoices have shown already.

Nothing is ever marked as invoiced. Counts of a closed period that have grown since (or shrunk, when a final event
replaced an estimate) are simply not what was invoiced for it, and the difference is an adjustment that names it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from headrace_billing.rating.book import PriceBook
from headrace_billing.rating.cumulative import Group
from headrace_billing.rating.schedule import charge_nanos


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open time of UTC instants: `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        assert self.start < self.end, f"empty span from {self.start} to {self.end}"


class Counted(NamedTuple):
    """Tokens of one rated group within one span: the period being closed, or an earlier one."""

    group: Group
    span: Span
    tokens: int


class Portion(NamedTuple):
    """A change of a count, and what it changes in the ledger's `unbilled`."""

    group: Group
    span: Span
    tokens: int
    nanos: int


def portions(
    used: Iterable[Counted],
    invoiced: Iterable[Portion],
    books: Mapping[str, PriceBook],
    *,
    closed: Collection[Group],
    period: Span,
) -> list[Portion]:
    """What the next invoice takes out of `unbilled`, by group and span.

    `used` holds every count of the groups in question, also those of closed periods; `invoiced` all that invoices
    have taken; `closed` the groups whose month's account is closed. Portions of one group telescope: whatever the
    order of closes and late events, they add up to the charge of the whole, which is what the ledger has posted.
    What closing a month adds without a token belongs to `period`, the one that is being closed.
    """
    standing: dict[Group, Standing] = {}
    for group, span, tokens in used:
        before = standing.get(group)
        if before is None:
            before = standing[group] = Standing()
        before.spans.append((span, tokens))
    for group, span, tokens, nanos in invoiced:
        before = standing.get(group)
        if before is None:
            before = standing[group] = Standing()
        before.spans.append((span, -tokens))
        before.tokens += tokens
        before.nanos += nanos

    fresh = []
    for group, before in sorted(standing.items(), key=lambda one: _order(one[0])):
        cumulative, taken = before.tokens, before.nanos
        schedule, is_closed = books[group.price_book].schedule(group.model, group.line), group in closed
        for span, tokens in _changed(before.spans) or [(period, 0)]:
            cumulative += tokens
            charge = charge_nanos(cumulative, schedule, closed=is_closed)
            if tokens or charge != taken:
                fresh.append(Portion(group, span, tokens, charge - taken))
            taken = charge
    return fresh


@dataclass(slots=True)
class Standing:
    """Of a group: counts that no invoice has taken, by span, and what invoices have taken in all."""

    spans: list[tuple[Span, int]] = field(default_factory=list)
    tokens: int = 0
    nanos: int = 0


def _changed(spans: Sequence[tuple[Span, int]]) -> list[tuple[Span, int]]:
    """Each once, by time, without those that cancel out. Of nearly every group there is only one."""
    sums: dict[Span, int] = {}
    if len(spans) > 1:
        for span, tokens in spans:
            sums[span] = sums.get(span, 0) + tokens
        spans = sorted(sums.items())
    return [(span, tokens) for span, tokens in spans if tokens]


def _order(group: Group) -> tuple[object, ...]:
    """As the group sorts by itself, and much faster than comparing it part by part."""
    payer, line = group.payer, group.line
    return (
        payer.period,
        payer.project,
        payer.wallet,
        payer.disposition,
        group.price_book,
        group.model,
        line.token_class,
        line.window,
        line.service_tier,
    )
