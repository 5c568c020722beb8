"""Putting charges into a shop's books."""

from datetime import UTC, datetime
from typing import Any, Protocol

from headrace_billing.charges import store
from headrace_billing.charges.charge import Charge, ChargeKind, Recognition
from headrace_billing.database import Database
from headrace_billing.ids import new_id
from headrace_billing.invoicing.usage import Span
from tests.billing.clock import Clock
from tests.billing.seller import Customer

DECEMBER, JANUARY = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


class Charged(Protocol):
    """Whose books they are, such as a shop's."""

    @property
    def customer(self) -> Customer: ...
    @property
    def database(self) -> Database: ...
    @property
    def clock(self) -> Clock: ...


def charge(shop: Charged, **fields: Any) -> Charge:
    """A plan's fee of 31.00 USD for December, unless `fields` say otherwise."""
    return Charge(
        **{
            "id": new_id("chg", shop.clock.now),
            "reference": "plan lite, December",
            "organization": shop.customer.org,
            "currency": "USD",
            "kind": ChargeKind.PLAN,
            "recognition": Recognition.OVER_TIME,
            "label": "Coding plan lite",
            "quantity": 1,
            "unit": "month",
            "amount_nanos": 31 * 10**9,
            "span": Span(DECEMBER, JANUARY),
            "happened_at": shop.clock.now,
            **fields,
        }
    )


async def put(shop: Charged, *charges: Charge) -> list[str]:
    async with shop.database.begin() as session:
        return await store.put(session, charges)
