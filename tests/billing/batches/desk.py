"""Where a customer of the tests hands in batches: billing's API and jobs before a gateway that is scripted."""

import json
from dataclasses import dataclass
from typing import Any

import openai
from openai.types import Batch
from sqlalchemy import text

from headrace_billing.batches.jobs import Batches
from headrace_billing.database import Database
from tests.billing.batches.lines import CHAT, jsonl
from tests.billing.batches.scripted_gateway import ScriptedGateway
from tests.billing.clock import Clock
from tests.billing.seller import Customer, Seller

TABLES = ("files", "file_pieces", "batches", "batch_lines")


@dataclass(slots=True)
class Desk:
    seller: Seller
    customer: Customer
    openai: openai.AsyncOpenAI
    """The customer's, unmodified."""
    gateway: ScriptedGateway
    batches: Batches
    database: Database
    clock: Clock

    async def upload(self, content: bytes, name: str = "in.jsonl") -> str:
        return (await self.openai.files.create(file=(name, content), purpose="batch")).id

    async def hand_in(self, *lines: object) -> Batch:
        return await self.make(await self.upload(jsonl(*lines)))

    async def make(self, file: str) -> Batch:
        return await self.openai.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h")

    async def now(self, batch: Batch) -> Batch:
        return await self.openai.batches.retrieve(batch.id)

    async def work(self) -> None:
        """All that can be done without time passing."""
        while (
            await self.batches.validate() or await self.batches.dispatcher.step() or await self.batches.end()
        ):
            pass

    async def ended(self, batch: Batch) -> Batch:
        await self.work()
        return await self.now(batch)

    async def lines(self, file: str | None) -> list[dict[str, Any]]:
        assert file is not None
        content = (await self.openai.files.content(file)).text
        return [json.loads(each) for each in content.splitlines()]

    async def rows(self) -> dict[str, int]:
        async with self.database.begin() as session:
            counts = {}
            for table in TABLES:
                counts[table] = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()  # noqa: S608
            return counts
