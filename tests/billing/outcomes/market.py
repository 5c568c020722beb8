"""A seller, a customer and a gateway between them; what is said and done about tasks."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.ledger.transaction import AccountKind
from headrace_billing.outcomes.jobs import pass_time
from headrace_billing.parts import Parts
from headrace_contracts.usage import Disposition
from tests.billing.clock import Clock
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import Customer, Document, Seller

OUTCOME_TYPE = {
    "name": "arithmetic-answer",
    "criteria": "The answer is the sum that the question asks for.",
    "verifier": "arithmetic@1",
    "price": "0.25",
    "currency": "USD",
}
QUESTION = "What is 17+25?"


@dataclass(slots=True)
class Market:
    seller: Seller
    customer: Customer
    buyer: Seller
    gateway: Gateway
    database: Database
    parts: Parts
    clock: Clock

    async def open_task(self, dedupe_key: str = QUESTION, **fields: Any) -> Document:
        return await self.buyer.post(
            "/v1/tasks", {"outcome_type": "arithmetic-answer", "dedupe_key": dedupe_key, **fields}
        )

    async def use(self, task: str | None) -> str:
        """A request inside the task, and its event in the books; its id."""
        request = str(uuid4())
        event = self.gateway.event(
            request=request,
            task=task,
            disposition=Disposition.OUTCOME_BUNDLED if task else Disposition.PREPAID,
            received_at=self.clock.now,
        )
        await take(self.database, event)
        return request

    async def report(
        self, task: str, request: str, *, answer: str = "42", question: str = QUESTION
    ) -> Document:
        evidence = {"question": question, "answer": answer, "request_id": request}
        return await self.buyer.post(
            f"/v1/tasks/{task}/outcomes", {"observer": "agent", "evidence": evidence}
        )

    async def solve(self, dedupe_key: str = QUESTION) -> Document:
        """A task with a right answer; the verified outcome."""
        task = await self.open_task(dedupe_key)
        outcome = await self.report(task["id"], await self.use(task["id"]))
        assert outcome["status"] == "verified", outcome
        return outcome

    async def outcome(self, outcome: Document) -> Document:
        return await self.buyer.get(f"/v1/outcomes/{outcome['id']}")

    async def let_time_work(self, **time: int) -> int:
        self.clock.passes(**time)
        return await pass_time(self.database, self.parts.valkey, now=self.clock)

    async def balance(self) -> str:
        return await self.seller.balance(self.customer.wallet)

    async def account(self, kind: AccountKind) -> int:
        """Sum over its owners, in thousandths of the currency, debit positive."""
        async with self.database.begin() as session:
            found = await session.execute(
                text("SELECT coalesce(sum(amount_nanos), 0) FROM ledger_balances WHERE kind = :kind"),
                {"kind": kind},
            )
            thousandths, rest = divmod(int(found.scalar_one()), 1_000_000)
        assert rest == 0
        return thousandths
