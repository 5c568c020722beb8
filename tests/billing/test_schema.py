"""A program waits for its schema, and goes on when a newer release has moved the schema ahead of it."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text

from headrace_billing import schema
from headrace_billing.database import psycopg_url
from headrace_billing.schema import SchemaNotReached, migrate, wait
from tests.support.postgres import PostgresServer


def test_a_program_serves_its_own_revision_and_any_that_is_newer_than_it_knows() -> None:
    assert schema.serves(schema.newest())
    assert schema.serves("9999")
    assert not schema.serves("0001")
    assert not schema.serves(None)


async def test_a_program_that_starts_before_the_migration_waits_for_it(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOOK_SECONDS", 0.05)
    url = postgres_server.create_database()
    waiting = asyncio.create_task(asyncio.to_thread(wait, url, seconds_max=60))
    await asyncio.to_thread(migrate, url)
    await waiting


def test_waiting_ends_with_what_the_database_was_at(database_url: str) -> None:
    engine = create_engine(psycopg_url(database_url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    engine.dispose()
    with pytest.raises(SchemaNotReached, match="at 0001, this program needs"):
        wait(database_url, seconds_max=0)


def test_waiting_for_a_database_that_is_not_there_says_so_without_its_password(
    unused_port: Callable[[], int],
) -> None:
    with pytest.raises(SchemaNotReached, match="does not let us in") as caught:
        wait(f"postgresql://headrace:a-password@127.0.0.1:{unused_port()}/headrace", seconds_max=0)
    assert "a-password" not in str(caught.value)
