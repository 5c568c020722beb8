"""What becomes of the amount due: it is paid, credited or written off, and never more of it than there is.

The invoice itself stays as it was issued. Money beyond what is open is owed to the customer, and shown so.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
)


class SettlementKind(StrEnum):
    PAYMENT = "payment"
    CREDIT_NOTE = "credit_note"
    WRITE_OFF = "write_off"
    REVERSAL = "reversal"  # of a payment that the payer's bank took back
    RECOVERY = "recovery"  # of a write-off, by money that came after all or by a credit note


class SettlementStatus(StrEnum):
    OPEN = "open"
    PARTLY_PAID = "partly_paid"
    PAID = "paid"
    CREDITED = "credited"
    VOID = "void"
    WRITTEN_OFF = "written_off"


class InvoicePaid(BillingError):
    """Money has come for it, so it can't be void; a credit note returns what is too much."""

    code = "invoice_paid"

    def __init__(self, number: str) -> None:
        super().__init__(f"{number} has payments or a write-off: issue a credit note instead of voiding it.")


class NothingOpen(BillingError):
    """The invoice has nothing left to pay."""

    code = "nothing_open"

    def __init__(self, number: str) -> None:
        super().__init__(f"{number} has nothing left to pay.")


class NeedsTwo(BillingError):
    """Who asks for it can't approve it, too."""

    code = "needs_two"

    def __init__(self) -> None:
        super().__init__("requested_by and approved_by must be two people.")


@dataclass(frozen=True, slots=True)
class Consent:
    """Who asked for it, and who else agreed; null where nobody had to."""

    requested_by: str
    approved_by: str | None = None

    def second(self) -> str:
        """Who else agreed, where somebody must. Raises `NeedsTwo`."""
        if self.approved_by is None or self.requested_by.casefold() == self.approved_by.casefold():
            raise NeedsTwo
        return self.approved_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An invoice as it stands, in minor units."""

    invoice: str
    number: str
    seller: str
    organization: str
    currency: str
    due_minor: int
    paid_minor: int
    over_minor: int
    """Paid beyond what was open, and so owed to the customer."""
    credited_minor: int
    """What credit notes took from the amount due; what they gave back as credit is not in it."""
    written_off_minor: int
    """Less what was recovered."""
    credited_lines_minor: int
    total_minor: int
    void: bool
    tax_included: bool = False
    credit_notes: tuple[str, ...] = ()

    @property
    def open_minor(self) -> int:
        return self.due_minor - self.paid_minor - self.credited_minor - self.written_off_minor

    @property
    def status(self) -> SettlementStatus:
        if self.void:
            return SettlementStatus.VOID
        if self.open_minor:
            return SettlementStatus.PARTLY_PAID if self.paid_minor else SettlementStatus.OPEN
        if self.written_off_minor:
            return SettlementStatus.WRITTEN_OFF
        if self.credit_notes and self.credited_lines_minor == self.total_minor:
            return SettlementStatus.CREDITED
        return SettlementStatus.PAID

    @property
    def receivable(self) -> Account:
        return Account(AccountKind.RECEIVABLE, self.organization, self.currency)

    @property
    def owed_back(self) -> Account:
        return Account(AccountKind.REFUND_LIABILITY, self.organization, self.currency)


@dataclass(frozen=True, slots=True)
class Split:
    """How an amount in the customer's favour is taken up."""

    applied_minor: int
    """To what is open, a recovered write-off with it."""
    recovered_minor: int
    over_minor: int


def split(standing: Standing, amount_minor: int) -> Split:
    """What is open first, then what had been written off; the rest is the customer's."""
    assert amount_minor >= 0, f"{standing.invoice}: {amount_minor} in nobody's favour"
    recovered = min(standing.written_off_minor, max(0, amount_minor - standing.open_minor))
    applied = min(amount_minor, standing.open_minor + recovered)
    return Split(applied, recovered, amount_minor - applied)


def taken_up(standing: Standing, parts: Split) -> dict[Account, int]:
    """The credit side, by account, in minor units."""
    return {
        standing.receivable: parts.recovered_minor - parts.applied_minor,
        business(AccountKind.BAD_DEBT, standing.currency): -parts.recovered_minor,
        standing.owed_back: -parts.over_minor,
    }


def payment_transaction(standing: Standing, parts: Split, *, payment: str, at: datetime) -> Transaction:
    amount = parts.applied_minor + parts.over_minor
    amounts = {
        business(AccountKind.CASH_CLEARING, standing.currency): amount,
        **taken_up(standing, parts),
    }
    return _transaction(standing, amounts, key=payment, kind=TransactionKind.PAYMENT, at=at)


def write_off_transaction(standing: Standing, *, write_off: str, at: datetime) -> Transaction:
    """All that is open. Raises `NothingOpen`."""
    if standing.open_minor == 0:
        raise NothingOpen(standing.number)
    amounts = {
        business(AccountKind.BAD_DEBT, standing.currency): standing.open_minor,
        standing.receivable: -standing.open_minor,
    }
    return _transaction(standing, amounts, key=write_off, kind=TransactionKind.WRITE_OFF, at=at)


def _transaction(
    standing: Standing, amounts: dict[Account, int], *, key: str, kind: TransactionKind, at: datetime
) -> Transaction:
    unit = nanos_per_minor(standing.currency)
    return Transaction(
        key=f"{kind}:{key}",
        kind=kind,
        currency=standing.currency,
        occurred_at=at,
        postings=tuple(Posting(account, minor * unit) for account, minor in amounts.items() if minor),
        memo={"invoice": standing.invoice, "number": standing.number, kind: key},
    )
