"""Usage events of a customer, and what the books say after some of them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.key import microseconds
from headrace_billing.database import Database
from headrace_billing.ingest.arrival import read
from headrace_billing.ingest.batch import Ingested, ingest
from headrace_contracts.usage import (
    Dialect,
    Disposition,
    Ending,
    Grade,
    TokenCounts,
    UsageEvent,
    encode_event,
)
from tests.billing.seller import MODEL, Customer

RECEIVED = datetime(2026, 11, 23, 12, 34, 56, 789, tzinfo=UTC)


@dataclass(slots=True)
class Gateway:
    """Makes events as a gateway would, numbering the final ones in its journal."""

    customer: Customer
    price_book: str
    producer: str = "gateway-0.0"
    boot: str = "boot-1"
    sequence: int = 0

    def event(
        self,
        *,
        tokens: TokenCounts | None = None,
        request: str | None = None,
        received_at: datetime = RECEIVED,
        disposition: Disposition = Disposition.PREPAID,
        **fields: Any,
    ) -> UsageEvent:
        if "sequence" not in fields:
            self.sequence += 1
        values: dict[str, Any] = {
            "id": request or str(uuid4()),
            "grade": Grade.FINAL,
            "producer": self.producer,
            "boot": self.boot,
            "sequence": self.sequence,
            "org": self.customer.org,
            "project": self.customer.project,
            "key": self.customer.key,
            "wallet": self.customer.wallet,
            "currency": "USD",
            "deployment": "dep-1",
            "model_requested": MODEL,
            "model_served": MODEL,
            "dialect": Dialect.OPENAI_CHAT,
            "received_at_us": microseconds(received_at),
            "finished_at_us": microseconds(received_at) + 1_500_000,
            "ending": Ending.COMPLETED,
            "tokens": tokens or TokenCounts(input_uncached=10, output_visible=5),
            "price_book": self.price_book,
            "disposition": disposition,
            **fields,
        }
        return UsageEvent(**values)

    def estimate(self, request: str, *, tokens: TokenCounts | None = None, **fields: Any) -> UsageEvent:
        return self.event(
            request=request,
            tokens=tokens,
            **{
                "grade": Grade.ESTIMATED,
                "producer": "reaper",
                "boot": "",
                "sequence": 0,
                "ending": Ending.GATEWAY_LOST,
                **fields,
            },
        )


async def take(database: Database, *events: UsageEvent | bytes, source: str = "journal") -> Ingested:
    raw = [event if isinstance(event, bytes) else encode_event(event) for event in events]
    return await ingest(database, [read(one) for one in raw], source=source)


async def books(session: AsyncSession) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that must not depend on how usage came in."""
    queries = {
        "rollups": """
            SELECT hour, project, key, model, price_book, disposition, requests, tokens_input_uncached,
                   tokens_cache_read, tokens_cache_write, tokens_output_visible, tokens_reasoning, list_attos
            FROM usage_rollups WHERE requests > 0 ORDER BY 1, 2, 3, 4, 5, 6, service_tier
        """,
        "charges": """
            SELECT date_trunc('month', hour), project, price_book, model, disposition, sum(charge_nanos)
            FROM usage_rollups GROUP BY 1, 2, 3, 4, 5 HAVING sum(requests) > 0 ORDER BY 1, 2, 3, 4, 5
        """,
        "rated": """
            SELECT period, project, price_book, model, disposition, token_class, quantity, charge_nanos,
                   price_window, service_tier
            FROM rated_usage WHERE quantity > 0 ORDER BY 1, 2, 3, 4, 5, 6, 9, 10
        """,
        "balances": """
            SELECT kind, owner, currency, amount_nanos FROM ledger_balances
            WHERE amount_nanos <> 0 ORDER BY 1, 2, 3
        """,
        "lots": "SELECT id, remaining_nanos FROM credit_lots ORDER BY 1",
        "events": """
            SELECT id, grade, tokens_input_uncached, tokens_output_visible FROM usage_effective ORDER BY id
        """,
    }
    return {name: [tuple(row) for row in await session.execute(text(sql))] for name, sql in queries.items()}
