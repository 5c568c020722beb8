"""Revenue of a charge by months: its amount by the seconds of its span, less what earlier months have recognised.

Each month recognises what is due at its end and was not recognised before, so that the months add up to the amount to
the nano-unit, and what a credit note takes back comes off in the month that it was issued in (ASC 606-10-25-31:
revenue over time by a measure of progress, here time elapsed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from headrace_billing.accounting.month import ends, next_month
from headrace_billing.charges.charge import REVENUE, ChargeKind
from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.usage import Span
from headrace_billing.ledger.transaction import AccountKind, Transaction, TransactionKind, business, move

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A charge whose revenue is recognised over its time."""

    charge: str
    currency: str
    kind: ChargeKind
    span: Span
    nanos: int
    """As it was charged."""
    changes: Sequence[tuple[datetime, int]]
    """What tax and credit notes have changed of it, and when."""
    recognised: Mapping[date, int]
    """By month."""

    def nanos_at(self, end: datetime) -> int:
        return self.nanos + sum(nanos for at, nanos in self.changes if at < end)


def due_nanos(nanos: int, span: Span, at: datetime) -> int:
    """What is earned of an amount until then, by time elapsed; half away from zero, and at the end all of it."""
    elapsed = min(max(at, span.start), span.end) - span.start
    return divided_half_away(nanos * (elapsed // MICROSECOND), (span.end - span.start) // MICROSECOND)


def recognitions(deferred: Deferred, *, through: date) -> dict[date, int]:
    """What is to be recognised by month after those that have been; the last one is there even where it is nothing."""
    first = deferred.span.start.astimezone(UTC).date().replace(day=1)
    month = next_month(max(deferred.recognised)) if deferred.recognised else first
    standing = sum(deferred.recognised.values())
    found: dict[date, int] = {}
    while month <= through:
        due = due_nanos(deferred.nanos_at(ends(month)), deferred.span, ends(month))
        if due != standing or month == through:
            found[month] = due - standing
            standing = due
        month = next_month(month)
    return found


def post(deferred: Deferred, month: date, nanos: int) -> Transaction:
    """At the month's last moment; where that is closed already, the ledger counts it in the open one."""
    return Transaction(
        key=f"recognised:{deferred.charge}:{month:%Y-%m}",
        kind=TransactionKind.RECOGNISED,
        currency=deferred.currency,
        occurred_at=ends(month) - MICROSECOND,
        postings=move(
            nanos,
            debit=business(AccountKind.DEFERRED, deferred.currency),
            credit=business(REVENUE[deferred.kind], deferred.currency),
        ),
        memo={"charge": deferred.charge, "month": f"{month:%Y-%m}"},
    )
