"""A contract's term: whole calendar months of UTC, cut into periods that follow each other without gap or overlap."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

from headrace_billing.accounting.month import begins, next_month
from headrace_billing.errors import BillingError
from headrace_billing.intervals import EARLIEST, LATEST
from headrace_billing.invoicing.usage import Span

MONTHS_MAX = 120


class ContractInvalid(BillingError):
    """Not terms that can be billed."""

    code = "contract_invalid"


class Cadence(StrEnum):
    """How long a period is."""

    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    TOTAL = "total"  # the whole term is one


MONTHS = {Cadence.MONTHLY: 1, Cadence.QUARTERLY: 3, Cadence.YEARLY: 12}


@dataclass(frozen=True, slots=True)
class Term:
    starts_on: date
    """First day of a month."""
    months: int
    cadence: Cadence

    @property
    def period_months(self) -> int:
        return MONTHS.get(self.cadence, self.months)

    @property
    def periods(self) -> int:
        return self.months // self.period_months

    @property
    def starts_at(self) -> datetime:
        return begins(self.starts_on)

    @property
    def ends_at(self) -> datetime:
        """Exclusive."""
        return begins(after(self.starts_on, self.months))

    @property
    def span(self) -> Span:
        return Span(self.starts_at, self.ends_at)

    def period(self, index: int) -> Span:
        assert 0 <= index < self.periods, f"period {index} of {self.periods}"
        first = after(self.starts_on, index * self.period_months)
        return Span(begins(first), begins(after(first, self.period_months)))

    def period_of(self, month: date) -> int:
        """The period that a month of the term belongs to."""
        return months_between(self.starts_on, month) // self.period_months

    def every_month(self) -> list[date]:
        return [after(self.starts_on, count) for count in range(self.months)]

    def check(self) -> None:
        """Raises `ContractInvalid`."""
        if not EARLIEST.date() <= self.starts_on < LATEST.date():
            raise ContractInvalid(f"starts_on: between {EARLIEST.year} and {LATEST.year}.")
        if self.starts_on.day != 1:
            raise ContractInvalid("starts_on: a term begins on the first of a month, in UTC.")
        if not 1 <= self.months <= MONTHS_MAX:
            raise ContractInvalid(f"months: a term has 1 to {MONTHS_MAX} months.")
        if self.months % self.period_months:
            raise ContractInvalid(
                f"months: a {self.cadence} contract has a multiple of {self.period_months} months."
            )


def after(month: date, months: int) -> date:
    """The first day of a later month."""
    count = month.year * 12 + month.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def months_between(first: date, month: date) -> int:
    return (month.year - first.year) * 12 + month.month - first.month


def month_of(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)


def month_span(month: date) -> Span:
    return Span(begins(month), begins(next_month(month)))
