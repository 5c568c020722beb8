"""A market whose usage is reconciled, and that closes periods."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from headrace_billing.ledger.transaction import AccountKind
from headrace_contracts.usage import Disposition, TokenCounts, UsageEvent
from tests.billing.ingest.usage import take
from tests.billing.outcomes.market import Market
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Document


@dataclass(slots=True)
class Shop(Market):
    async def sell(
        self,
        tokens: TokenCounts | None = None,
        *,
        at: datetime | None = None,
        disposition: Disposition = Disposition.PREPAID,
        **fields: Any,
    ) -> UsageEvent:
        """A request now, billed and yielded alike."""
        event = self.gateway.event(
            tokens=tokens or TokenCounts(input_uncached=100_000, cache_read=50_000, output_visible=20_000),
            received_at=at or self.clock.now,
            disposition=disposition,
            **fields,
        )
        await take(self.database, event)
        await tell(self.database, yielded(event))
        return event

    async def use(self, task: str | None) -> str:
        disposition = Disposition.OUTCOME_BUNDLED if task else Disposition.PREPAID
        return (await self.sell(task=task, disposition=disposition)).id

    async def sell_outcome(self, dedupe_key: str) -> Document:
        outcome = await self.solve(dedupe_key)
        return await self.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})

    async def close(self, **fields: Any) -> Document:
        return await self.seller.post("/v1/periods/close", {"organization": self.customer.org, **fields})

    async def refused_to_close(self, **fields: Any) -> tuple[int, str]:
        return await self.seller.refused("/v1/periods/close", {"organization": self.customer.org, **fields})

    async def nanos(self, kind: AccountKind) -> int:
        """Sum over its owners, debit positive."""
        async with self.database.begin() as session:
            found = await session.execute(
                text("SELECT coalesce(sum(amount_nanos), 0) FROM ledger_balances WHERE kind = :kind"),
                {"kind": kind},
            )
            return int(found.scalar_one())
