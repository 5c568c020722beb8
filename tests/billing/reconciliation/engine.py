"""What an engine says that it yielded, for tests."""

from datetime import datetime
from typing import Any

from headrace_billing.accounts.key import microseconds
from headrace_billing.database import Database
from headrace_billing.ingest.engine_records import keep
from headrace_contracts.engine import EngineEnding, EngineRecord
from headrace_contracts.usage import UsageEvent, attempt_id
from tests.billing.ingest.usage import RECEIVED
from tests.billing.seller import MODEL


def record(
    attempt: str, *, prompt: int = 10, output: int = 5, at: datetime = RECEIVED, **fields: Any
) -> EngineRecord:
    values: dict[str, Any] = {
        "replica": "replica-1",
        "attempt": attempt,
        "deployment": "dep-1",
        "model": MODEL,
        "ending": EngineEnding.FINISHED,
        "prompt": prompt,
        "cached": 0,
        "output": output,
        "started_at_us": microseconds(at),
        "finished_at_us": microseconds(at) + 1_400_000,
        **fields,
    }
    if values["ending"] is EngineEnding.STARTED:
        values["finished_at_us"] = None
    return EngineRecord(**values)


def yielded(event: UsageEvent, *, more_input: int = 0, more_output: int = 0, **fields: Any) -> EngineRecord:
    """The record of the attempt that the event's client was answered from, a little more than billed if asked."""
    return record(
        attempt_id(event.id, event.attempts),
        **{
            "prompt": event.tokens.input + more_input,
            "output": event.tokens.output + more_output,
            "started_at_us": event.received_at_us,
            "finished_at_us": event.finished_at_us,
            **fields,
        },
    )


async def tell(database: Database, *records: EngineRecord) -> None:
    async with database.begin() as session:
        await keep(session, records)
