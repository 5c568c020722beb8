"""Batches through all of it, by OpenAI's own client, at the gateway's address."""

import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.database import Database
from tests.billing.batches.lines import line
from tests.billing.batches.works import Works, working
from tests.billing.test_processes import until
from tests.support.upstream import Behaviour

# 4 tokens of input at 30 and 3 cached ones at 6, 5 of output at 90 a million, and all of it at half the price.
NANOS_A_LINE = (4 * 30_000 + 3 * 6_000 + 5 * 90_000) // 2


@pytest.fixture
async def works(
    database_url: str, valkey_url: str, valkey: Redis, tmp_path: Path, unused_port: Callable[[], int]
) -> AsyncIterator[Works]:
    async with working(database_url, valkey_url, valkey, tmp_path, unused_port) as running:
        yield running


async def rated(database: Database) -> list[tuple[str, str, int]]:
    """Service tier, session and count of what was used."""
    async with database.begin() as session:
        rows = await session.execute(
            text("SELECT service_tier, session, count(*) FROM usage_events GROUP BY 1, 2 ORDER BY 1, 2")
        )
        return [(row[0], row[1], row[2]) for row in rows]


async def charged_nanos(database: Database) -> int:
    async with database.begin() as session:
        return int(
            (
                await session.execute(text("SELECT coalesce(sum(charge_nanos), 0) FROM usage_rollups"))
            ).scalar_one()
        )


async def revenue_nanos(database: Database) -> int:
    async with database.begin() as session:
        found = await session.execute(
            text("SELECT coalesce(-sum(amount_nanos), 0) FROM ledger_balances WHERE kind = 'revenue_tokens'")
        )
        return int(found.scalar_one())


async def test_a_batch_is_answered_for_half_the_price_by_an_unmodified_client(
    works: Works, database: Database
) -> None:
    works.start_worker()
    batch = await works.begin(*(line(f"line-{number}") for number in range(12)), run="nightly")
    assert (batch.status, batch.metadata) == ("validating", {"run": "nightly"})
    ended = await works.becomes(batch, "completed")
    assert ended.request_counts is not None
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (
        12,
        12,
        0,
    )
    assert ended.error_file_id is None
    answers = [json.loads(each) for each in (await works.content(ended.output_file_id)).splitlines()]
    assert [each["custom_id"] for each in answers] == [f"line-{number}" for number in range(12)]
    for each in answers:
        assert each["error"] is None
        assert each["response"]["status_code"] == 200
        assert each["response"]["body"]["choices"][0]["message"]["content"]

    async def booked() -> bool:
        return await rated(database) == [("batch", batch.id, 12)]

    await until(booked)
    assert await charged_nanos(database) == 12 * NANOS_A_LINE
    assert await revenue_nanos(database) == 12 * NANOS_A_LINE
    async with database.begin() as session:
        row = await session.execute(text("SELECT array_agg(payload) FROM usage_events"))
        ids = {event["id"] for event in map(_loaded, row.scalar_one())}
    assert {each["response"]["request_id"] for each in answers} == ids


def _loaded(payload: object) -> dict[str, str]:
    loaded: dict[str, str] = payload if isinstance(payload, dict) else json.loads(str(payload))
    return loaded


async def test_a_worker_killed_in_the_middle_of_a_batch_loses_no_line_and_doubles_none(
    works: Works, database: Database
) -> None:
    works.engine.default = Behaviour(before_first_seconds=0.05)
    batch = await works.begin(*(line(f"line-{number}") for number in range(40)))
    for answered in (5, 15, 25):
        worker = works.start_worker()

        async def some_are_answered(count: int = answered) -> bool:
            counts = (await works.openai.batches.retrieve(batch.id)).request_counts
            return counts is not None and counts.completed >= count

        await until(some_are_answered)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        # Nobody waits a minute here for the claims of the dead one to end.
        async with database.begin() as session:
            await session.execute(text("UPDATE batch_lines SET due_at = now() WHERE state = 'sent'"))
    works.start_worker()
    ended = await works.becomes(batch, "completed")
    answers = [json.loads(each) for each in (await works.content(ended.output_file_id)).splitlines()]
    assert [each["custom_id"] for each in answers] == [f"line-{number}" for number in range(40)]
    finished = [attempt for attempt in works.engine.attempts if attempt.ending == "finished"]
    assert len(finished) == 40

    async def booked() -> bool:
        return await charged_nanos(database) == 40 * NANOS_A_LINE

    await until(booked)


async def test_a_key_that_is_revoked_takes_the_rest_of_its_batch_with_it(
    works: Works, database: Database
) -> None:
    batch = await works.begin(line("a"), line("b"))
    another = await works.seller.post("/v1/keys", {"project": works.customer.project, "name": "second"})
    await works.seller.post(f"/v1/keys/{works.customer.key}/revoke")
    works.openai.api_key = another["secret"]
    works.start_worker()
    ended = await works.becomes(batch, "completed")
    assert ended.output_file_id is None
    errors = [json.loads(each) for each in (await works.content(ended.error_file_id)).splitlines()]
    assert [each["response"]["body"]["error"]["code"] for each in errors] == ["api_key_revoked"] * 2
    assert works.engine.attempts == []
    assert await charged_nanos(database) == 0
