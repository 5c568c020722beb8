"""Signing contracts with a shop's customer, using what they are for, and letting time pass with what it brings."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from headrace_billing.contracts.jobs import assess_contracts, turn_periods
from headrace_billing.ledger import store as ledger
from headrace_contracts.usage import Disposition, TokenCounts, UsageEvent
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document

NANOS = 10**9

DECEMBER, JANUARY = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
FEBRUARY, MARCH = datetime(2027, 2, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)

PREPAID = {"funding": "prepaid", "amounts": ["90.00"], "when_used_up": "overage"}
POSTPAID = {"funding": "postpaid", "amounts": ["90.00"]}


@dataclass(slots=True)
class Desk:
    shop: Shop

    def body(self, **fields: Any) -> Document:
        """Three months from December on, in periods of one."""
        return {
            "organization": self.shop.customer.org,
            "name": "Framework 2027",
            "currency": "USD",
            "starts_on": "2026-12-01",
            "months": 3,
            "cadence": "monthly",
            "projects": [self.shop.customer.project],
            "terms": {"commitment": PREPAID},
            **fields,
        }

    async def sign(self, **fields: Any) -> Document:
        return await self.shop.seller.post("/v1/contracts", self.body(**fields))

    async def shown(self, contract: Document, of: str = "") -> Document:
        return await self.shop.seller.get(f"/v1/contracts/{contract['id']}{of}")

    async def standing(self, contract: Document, period: int | None = None) -> Document:
        query = "" if period is None else f"?period={period}"
        found: Document = (await self.shown(contract, f"/standing{query}"))["commitment"]
        return found

    async def passes_to(self, at: datetime) -> None:
        self.shop.clock.now = at
        await self.work()

    async def work(self) -> None:
        now = self.shop.clock.now
        while await turn_periods(self.shop.database, self.shop.parts.valkey, now=now):
            pass
        while await assess_contracts(self.shop.database, now=now):
            pass

    async def draw(self, contract: Document, dollars: int, **fields: Any) -> UsageEvent:
        """Usage of so many dollars out of the commitment."""
        fields = {"disposition": Disposition.COMMITMENT, "wallet": contract["wallet"], **fields}
        return await self.use(dollars, **fields)

    async def use(self, dollars: int, **fields: Any) -> UsageEvent:
        fields = {"disposition": Disposition.PAYG, **fields}
        tokens = TokenCounts(output_visible=dollars * 100_000 // 9)
        assert dollars % 9 == 0, "prices make whole dollars of nine alone"
        return await self.shop.sell(tokens, **fields)

    async def charges(self) -> list[tuple[str, str]]:
        """Kind and amount of every charge, in the order in which they happened."""
        async with self.shop.database.begin() as session:
            rows = await session.execute(
                text("SELECT kind, amount_nanos FROM charges ORDER BY happened_at, reference")
            )
            return [(row.kind, f"{int(row.amount_nanos) / NANOS:.2f}") for row in rows]

    async def books_hold(self) -> None:
        """Balanced, rebuilt identically, and reconciled."""
        async with self.shop.database.begin() as session:
            assert await ledger.rebuild(session) == []
            balance = await ledger.trial_balance(session)
        assert set(balance.by_currency.values()) <= {0}
        report = await self.shop.seller.get(f"/v1/reconciliation?organization={self.shop.customer.org}")
        assert report["status"] == "green", report["reasons"]
