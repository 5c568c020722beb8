"""An invoice: lines that add up, what credit has paid of it already, and what is left to pay. Final once numbered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.lines import Line
from headrace_billing.invoicing.parties import Profile, Seller
from headrace_billing.invoicing.tax import Assessment
from headrace_billing.invoicing.usage import Span


class NothingToInvoice(BillingError):
    """The period has no charge; it stays open, and the next close covers it."""

    code = "nothing_to_invoice"

    def __init__(self, organization: str, currency: str) -> None:
        super().__init__(f"{organization} has nothing to invoice in {currency} up to that time.")


class PeriodInvalid(BillingError):
    """Periods follow each other without gap or overlap, and end in the past."""

    code = "period_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    id: str
    number: str
    seller: Seller
    organization: str
    buyer: Profile
    currency: str
    period: Span
    issued_at: datetime
    lines: tuple[Line, ...]
    tax: Assessment

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)

    @property
    def exact_nanos(self) -> int:
        return sum(line.exact_nanos for line in self.lines)

    @property
    def applied_minor(self) -> int:
        """What credit paid when it was used: of each such line the whole amount, so that prepaid nets to nothing."""
        return sum(line.amount_minor for line in self.lines if line.prepaid)

    @property
    def applied_nanos(self) -> int:
        return sum(line.exact_nanos for line in self.lines if line.prepaid)

    @property
    def due_minor(self) -> int:
        return self.total_minor + self.tax.added_minor - self.applied_minor

    @property
    def due_at(self) -> datetime:
        return self.issued_at + timedelta(days=self.buyer.payment_days)


def number(seller: Seller, count: int) -> str:
    return f"{seller.number_prefix}-{count:06d}"


def unpaid_minor(lines: Sequence[Line]) -> int:
    """What credit has not paid: tax is on it, or in it."""
    return sum(line.amount_minor for line in lines if not line.prepaid)


def next_period(
    *, start: datetime | None, end: datetime, last_end: datetime | None, since: datetime, now: datetime
) -> Span:
    """The period to close. Raises `PeriodInvalid`.

    `last_end` is where the last one ended; before the first one, `since` is when the organisation came to be.
    """
    begins = last_end or since
    if start is not None:
        if last_end is not None and start != last_end:
            raise PeriodInvalid(
                f"The last period ended at {last_end.isoformat()}; the next one starts there."
            )
        if last_end is None and start > since:
            raise PeriodInvalid(
                f"The first period starts at {since.isoformat()} or earlier, or usage would be missed."
            )
        begins = start
    if end > now:
        raise PeriodInvalid(f"The period would end at {end.isoformat()}, which has not come yet.")
    if begins >= end:
        raise PeriodInvalid(f"The period from {begins.isoformat()} to {end.isoformat()} is empty.")
    return Span(begins, end)


def must_bill(lines: Sequence[Line], *, organization: str, currency: str) -> None:
    """Raises `NothingToInvoice`. A sum below zero waits for usage to be set against: an invoice never pays out."""
    if not lines or sum(line.amount_minor for line in lines) < 0 or unpaid_minor(lines) < 0:
        raise NothingToInvoice(organization, currency)
