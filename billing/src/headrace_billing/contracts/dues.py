"""What a contract is due for its months and periods, and how it gets charged: always the difference to what was.

Charges of one key telescope: however often a due is looked at, and whatever comes late in between, they add up to what
is due, and a look that finds nothing new charges nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from headrace_billing.charges.charge import Charge, ChargeKind, Recognition
from headrace_billing.invoicing.usage import Span

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    key: str
    """Within the contract: what it is for, and of which time."""
    kind: ChargeKind
    label: str
    span: Span
    quantity: int
    unit: str
    nanos: int
    unit_price: Decimal | None = None
    """For `per` units; null where quantity times price is not the amount."""
    per: int = 1


@dataclass(frozen=True, slots=True)
class Charged:
    """All that was charged under a key."""

    quantity: int
    nanos: int
    times: int


NEVER = Charged(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Difference:
    due: Due
    """With the quantity and amount that are still to be charged."""
    number: int
    """From 1; what is above adjusts what was charged before."""

    def charge(self, contract: str, *, charge: str, organization: str, currency: str) -> Charge:
        due = self.due
        return Charge(
            id=charge,
            reference=f"contract:{contract}:{due.key}:{self.number}",
            organization=organization,
            currency=currency,
            kind=due.kind,
            recognition=Recognition.AT_ONCE,
            label=due.label if self.number == 1 else f"Adjustment: {due.label}",
            quantity=due.quantity,
            unit=due.unit,
            unit_price=due.unit_price,
            per=due.per,
            amount_nanos=due.nanos,
            span=due.span,
            # In the time that it is for; where that month is closed, the ledger counts it in the open one.
            happened_at=due.span.end - MICROSECOND,
        )


def differences(dues: Iterable[Due], charged: Mapping[str, Charged]) -> list[Difference]:
    found = []
    for due in dues:
        before = charged.get(due.key, NEVER)
        if due.nanos != before.nanos:
            rest = replace(due, nanos=due.nanos - before.nanos, quantity=due.quantity - before.quantity)
            found.append(Difference(rest, before.times + 1))
    return found
