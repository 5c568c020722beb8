"""A customer of a shop that sells plans: what is asked of its subscription, and what stands in the books after."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.charges.recognising import recognise_over
from headrace_billing.invoicing.amounts import nanos_per_minor
from headrace_billing.ledger import store as ledger
from headrace_billing.plans.jobs import pass_time
from headrace_contracts import channels
from headrace_contracts.access import ProjectRecord, decode_project
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document, Seller

CREDITS = {
    "kind": "window",
    "window": {
        "seconds": 7 * 86400,
        "shape": "fixed",
        "unit": "credits",
        "weights": {"*": {"input": "690", "cached": "170", "output": "2400"}},
    },
}


def windows(per_week: int) -> Document:
    """Entitlements of a week with so many credits."""
    return {"limits": [{**CREDITS, "ceiling": per_week * 1_000_000}]}


@dataclass(slots=True)
class Subscriber:
    shop: Shop
    valkey: Redis

    @property
    def seller(self) -> Seller:
        return self.shop.seller

    async def publish(self, code: str, price: str, **fields: Any) -> Document:
        body = {
            "code": code,
            "version": 1,
            "name": code.capitalize(),
            "currency": "USD",
            "interval": "month",
            "price": price,
            "seats_max": 10,
            "seat_price": "10.00",
            "add_ons": [
                {"code": "support", "name": "Support", "price": "9.99"},
                {"code": "setup", "name": "Set-up", "price": "50.00", "recurring": False},
            ],
            "entitlements": windows(1000),
            **fields,
        }
        return await self.seller.post("/v1/plans", body)

    async def subscribe(self, plan: str = "plan_lite_1", **fields: Any) -> Document:
        body = {"organization": self.shop.customer.org, "plan": plan, **fields}
        return await self.seller.post("/v1/subscriptions", body)

    async def shown(self, subscription: Document) -> Document:
        return await self.seller.get(f"/v1/subscriptions/{subscription['id']}")

    async def ask(
        self, subscription: Document, what: str, body: Document | None = None, *, by: Seller | None = None
    ) -> Document:
        """For the version that the caller has seen."""
        answer = await (by or self.seller).ask(
            "POST",
            f"/v1/subscriptions/{subscription['id']}/{what}",
            body or {},
            **{"if-match": str(subscription["version"])},
        )
        assert answer.is_success, answer.text
        document: Document = answer.json()
        return document

    async def refused(
        self, subscription: Document, what: str, body: Document | None = None, *, by: Seller | None = None
    ) -> tuple[int, str]:
        return await (by or self.seller).refused(
            f"/v1/subscriptions/{subscription['id']}/{what}",
            body or {},
            **{"if-match": str(subscription["version"])},
        )

    async def preview(self, subscription: Document, **wish: Any) -> Document:
        return await self.seller.post(f"/v1/subscriptions/{subscription['id']}/preview", wish)

    async def passes(self, **time: int) -> None:
        """Time, and the worker's look at what it did."""
        self.shop.clock.passes(**time)
        await self.work()

    async def work(self) -> None:
        while await pass_time(self.shop.database, self.valkey, now=self.shop.clock.now):
            pass

    async def record(self) -> ProjectRecord:
        """What gateways have of the customer's project."""
        raw = await self.valkey.hget(channels.project(self.shop.customer.project), "r")
        assert isinstance(raw, bytes)
        return decode_project(raw)

    async def charged(self) -> list[tuple[str, int]]:
        """Item and amount in minor units, in order."""
        async with self.shop.database.begin() as session:
            rows = await session.execute(
                text("""
                    SELECT reference, amount_nanos, currency FROM charges
                    ORDER BY happened_at, CAST(split_part(reference, '.', 2) AS int), amount_nanos
                """)
            )
            return [
                (row.reference.split(".", 2)[2], int(row.amount_nanos) // nanos_per_minor(row.currency))
                for row in rows
            ]

    async def sound(self) -> None:
        """The ledger adds up, projections are what they must be, and reconciliation is green."""
        async with self.shop.database.begin() as session:
            assert await ledger.rebuild(session) == []
            trial = await ledger.trial_balance(session)
        assert set(trial.by_currency.values()) <= {0}
        report = await self.seller.get(f"/v1/reconciliation?organization={self.shop.customer.org}")
        assert report["status"] == "green", report["reasons"]

    async def recognise(self) -> None:
        while await recognise_over(self.shop.database, now=self.shop.clock.now):
            pass


def lines(steps: list[Document]) -> list[tuple[str, str]]:
    return [(line["item"], line["amount"]) for step in steps for line in step["lines"]]
