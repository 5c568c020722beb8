"""What is to be invoiced, and opening the books for it: whose they are, and which period comes next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound
from headrace_billing.invoicing import store
from headrace_billing.invoicing.invoice import PeriodInvalid, next_period
from headrace_billing.invoicing.store import Customer
from headrace_billing.invoicing.usage import Span
from headrace_billing.invoicing.usage_store import Whose


class CurrencyAmbiguous(BillingError):
    """The organisation has books in several currencies, or in none."""

    code = "currency_ambiguous"

    def __init__(self, currencies: list[str]) -> None:
        super().__init__(
            f"Name the currency: the organization has projects in {', '.join(currencies) or 'none'}."
        )


@dataclass(frozen=True, slots=True)
class Order:
    organization: str
    currency: str | None
    start: datetime | None
    end: datetime | None
    seller: str | None = None
    """Null means the one of the customer's billing profile."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Nobody else closes these books until the transaction ends."""

    whose: Whose
    customer: Customer
    seller: str | None
    period: Span
    is_first: bool


async def open_books(
    session: AsyncSession, orders: Sequence[Order], *, now: datetime
) -> list[Opened | BillingError]:
    """In the order of the orders, each of which is for other books: `NotFound`, `CurrencyAmbiguous`, `PeriodInvalid`."""
    known = await store.customers(session, [order.organization for order in orders])
    whose = [await _whose(session, order, known) for order in orders]
    named = [one for one in whose if isinstance(one, Whose)]
    assert len(set(named)) == len(named), "each customer's books can be closed once at a time"
    await store.lock_books(session, named)
    ends = await store.last_period_ends(session, named)
    found: list[Opened | BillingError] = []
    for order, one in zip(orders, whose, strict=True):
        if isinstance(one, BillingError):
            found.append(one)
            continue
        customer, last_end = known[one.organization], ends.get(one)
        try:
            period = next_period(
                start=order.start, end=order.end or now, last_end=last_end, since=customer.since, now=now
            )
        except PeriodInvalid as error:
            found.append(error)
        else:
            found.append(Opened(one, customer, order.seller, period, is_first=last_end is None))
    return found


async def _whose(session: AsyncSession, order: Order, known: dict[str, Customer]) -> Whose | BillingError:
    if order.organization not in known:
        return NotFound("organization", order.organization)
    if order.currency is not None:
        return Whose(order.organization, order.currency)
    currencies = await store.currencies_of(session, order.organization)
    return Whose(order.organization, currencies[0]) if len(currencies) == 1 else CurrencyAmbiguous(currencies)
