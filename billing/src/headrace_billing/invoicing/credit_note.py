"""Credit notes: an invoice's lines taken back, in full or in part, to where they were paid from.

What was due comes off what is open, or is owed to the customer. What credit paid goes back into the very lots that it
was burnt from. A line that is credited in full takes its rounding with it, so that nothing of it is left in the books.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from headrace_billing.errors import BillingError
from headrace_billing.invoicing.amounts import nanos_per_minor, plain
from headrace_billing.invoicing.lines import Source
from headrace_billing.invoicing.settlement import Split, Standing, taken_up
from headrace_billing.invoicing.tax import contained_by_source, share_of_tax
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    net,
)


class CreditInvalid(BillingError):
    """Nothing to credit, a line that is not there, or more than is left of it."""

    code = "credit_invalid"


class CreditedInFull(BillingError):
    """Credit notes have taken back all of the invoice."""

    code = "credited_in_full"

    def __init__(self, number: str) -> None:
        super().__init__(f"Nothing of {number} is left to credit.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Creditable:
    """A line of the invoice, and what of it no credit note has taken back."""

    position: int
    source: Source
    prepaid: bool
    project: str | None
    amount_minor: int
    exact_nanos: int
    left_minor: int
    left_nanos: int


@dataclass(frozen=True, slots=True)
class Credited:
    line: Creditable
    amount_minor: int
    exact_nanos: int


def credited(
    lines: Iterable[Creditable], wanted: Mapping[int, int | None] | None, *, currency: str
) -> list[Credited]:
    """By position the amount to credit, or null for all that is left; no mapping means every line.

    Raises `CreditInvalid`.
    """
    by_position = {line.position: line for line in lines}
    if wanted is None:
        wanted = {line.position: None for line in by_position.values() if line.left_minor}
    found = []
    for position, asked in sorted(wanted.items()):
        line = by_position.get(position)
        if line is None:
            raise CreditInvalid(f"The invoice has no line {position}.")
        amount = line.left_minor if asked is None else asked
        if amount == 0 or (amount < 0) != (line.left_minor < 0) or abs(amount) > abs(line.left_minor):
            raise CreditInvalid(
                f"Of line {position} {plain(line.left_minor, currency)} can still be credited, not {plain(amount, currency)}."
            )
        whole = amount == line.left_minor
        found.append(Credited(line, amount, line.left_nanos if whole else amount * nanos_per_minor(currency)))
    due, applied = due_of(found), sum(one.amount_minor for one in found if one.line.prepaid)
    if due < 0 or applied < 0 or due + applied == 0:
        raise CreditInvalid("There is nothing to credit: a credit note never asks for money.")
    return found


def due_of(lines: Iterable[Credited]) -> int:
    """Before tax."""
    return sum(one.amount_minor for one in lines if not one.line.prepaid)


def tax_of(
    lines: Sequence[Credited], every: Iterable[Creditable], *, tax_minor: int, taken_minor: int
) -> int:
    """The tax that goes back with them, so that notes for all lines return all of it; `taken_minor` went before."""
    unpaid = [line for line in every if not line.prepaid]
    taxable = sum(line.amount_minor for line in unpaid)
    before = taxable - sum(line.left_minor for line in unpaid)
    return share_of_tax(tax_minor, credited_minor=before + due_of(lines), taxable_minor=taxable) - taken_minor


def contained_of(
    lines: Sequence[Credited], every: Sequence[Creditable], *, invoice_tax_minor: int, tax_minor: int
) -> dict[Source, int]:
    """To where a tax goes back that the lines hold; notes for all lines leave none of it anywhere."""
    unpaid = [line for line in every if not line.prepaid]
    held = contained_by_source(invoice_tax_minor, ((line.source, line.amount_minor) for line in unpaid))
    found: dict[Source, int] = {}
    for source, tax in list(held.items())[:-1]:
        of = [line for line in unpaid if line.source == source]
        whole = sum(line.amount_minor for line in of)
        before = whole - sum(line.left_minor for line in of)
        now = due_of(one for one in lines if one.line.source == source)
        upto = share_of_tax(tax, credited_minor=before + now, taxable_minor=whole)
        found[source] = upto - share_of_tax(tax, credited_minor=before, taxable_minor=whole)
    # The last one takes what rounding leaves, as it did on the invoice.
    return {**found, **{source: tax_minor - sum(found.values()) for source in list(held)[-1:]}}


def taken_from_deferred(
    lines: Iterable[Credited], contained: Mapping[Source, int], *, currency: str
) -> dict[str, int]:
    """By charge, in nano-units below zero where it is a charge: what is no revenue to come any more."""
    unit = nanos_per_minor(currency)
    found: dict[str, int] = {}
    for one in lines:
        source = one.line.source
        if source.charge is not None and source.account is AccountKind.DEFERRED:
            found[source.charge] = contained.get(source, 0) * unit - one.exact_nanos
    return found


@dataclass(frozen=True, slots=True)
class Burnt:
    """A lot, and what was taken from it and not given back."""

    lot: str
    account: Account
    taken_nanos: int


@dataclass(frozen=True, slots=True)
class Payer:
    """The wallet that paid for a line; its lots with those burnt last before the others."""

    overdraft: Account
    overdraft_nanos: int
    burnt: tuple[Burnt, ...]


def given_back(
    lines: Iterable[Credited], payers: Mapping[str | None, Sequence[Payer]], *, owed_back: Account
) -> tuple[Posting, ...]:
    """Overdrafts first, then the recorded lots; what a correction has returned meanwhile is owed as money."""
    owed: dict[str | None, int] = {}
    for one in lines:
        if one.line.prepaid:
            owed[one.line.project] = owed.get(one.line.project, 0) + one.exact_nanos
    returned: dict[tuple[Account, str | None], int] = {}
    for project in sorted(owed, key=lambda one: one or ""):
        left = owed[project]
        for place, room in _rooms(payers[project]):
            part = min(left, room - returned.get(place, 0))
            if part > 0:
                returned[place] = returned.get(place, 0) + part
                left -= part
        returned[owed_back, None] = returned.get((owed_back, None), 0) + left
    return tuple(Posting(account, -nanos, lot) for (account, lot), nanos in returned.items() if nanos)


def _rooms(payers: Sequence[Payer]) -> Iterable[tuple[tuple[Account, str | None], int]]:
    """Where credit can go back to, and how much of it."""
    for payer in payers:
        yield (payer.overdraft, None), payer.overdraft_nanos
        for burnt in payer.burnt:
            yield (burnt.account, burnt.lot), burnt.taken_nanos


def credit_transaction(
    standing: Standing,
    lines: Sequence[Credited],
    *,
    note: str,
    tax_minor: int,
    contained: Mapping[Source, int],
    parts: Split,
    returned: Sequence[Posting],
    at: datetime,
) -> Transaction:
    """`parts` is how the amount due is taken up, with the tax; `returned` is what prepaid lines give back.

    `contained` is of the tax what each source had to give for it, where prices hold it.
    """
    unit = nanos_per_minor(standing.currency)
    postings = [
        *returned,
        *(
            Posting(business(one.line.source.account, standing.currency), one.exact_nanos)
            for one in lines
            if one.exact_nanos
        ),
    ]
    if tax_minor:
        postings.append(Posting(business(AccountKind.TAX_PAYABLE, standing.currency), tax_minor * unit))
    postings += [
        Posting(business(source.account, standing.currency), -minor * unit)
        for source, minor in contained.items()
        if minor
    ]
    postings += [
        Posting(account, minor * unit) for account, minor in taken_up(standing, parts).items() if minor
    ]
    rounding = -sum(posting.amount_nanos for posting in postings)
    assert abs(rounding) < unit * len(lines), (
        f"{note}: {rounding} nano-units of rounding on {len(lines)} lines"
    )
    if rounding:
        postings.append(Posting(business(AccountKind.ROUNDING, standing.currency), rounding))
    return Transaction(
        key=f"{TransactionKind.CREDIT_NOTE}:{note}",
        kind=TransactionKind.CREDIT_NOTE,
        currency=standing.currency,
        occurred_at=at,
        postings=net(postings),
        memo={"invoice": standing.invoice, "number": standing.number, "credit_note": note},
    )
