"""The examples of docs/reference/webhook-events.md, by type."""

import json
import re
from pathlib import Path
from typing import Any

from sqlalchemy import text

from headrace_billing.database import Database

REFERENCE = Path(__file__).parents[3] / "docs/reference/webhook-events.md"
BLOCK = re.compile(r"^### `([a-z_.]+)`$.*?^```json$(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> dict[str, dict[str, Any]]:
    return {heading: json.loads(body) for heading, body in BLOCK.findall(REFERENCE.read_text())}


async def not_as_documented(database: Database) -> list[tuple[str, list[str]]]:
    """Messages that were noted with other members than their type's example has, whoever hears of them."""
    shown = {heading: set(body["data"]) for heading, body in examples().items()}
    async with database.begin() as session:
        rows = (await session.execute(text("SELECT type, data FROM webhook_messages"))).all()
    return [(row.type, sorted(row.data)) for row in rows if set(row.data) != shown.get(row.type)]
