"""Billing as it is deployed: processes started by their command, fed by environment, killed without warning."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx2
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_contracts import channels
from tests.billing.ingest.test_jobs import (
    JOURNAL,
    SPENT_MICROS,
    acknowledged,
    append,
    hold_pending,
    wallet_of,
)
from tests.billing.ingest.usage import Gateway, books
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, Seller
from tests.support.postgres import PostgresServer
from tests.support.processes import end

START_SECONDS = 60


def environment(database_url: str, valkey_url: str, port: int = 1) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HEADRACE_BILLING_DATABASE_URL": database_url,
        "HEADRACE_BILLING_VALKEY_URL": valkey_url,
        "HEADRACE_BILLING_ADMIN_TOKEN": ADMIN_TOKEN,
        "HEADRACE_BILLING_INGEST_TOKEN": INGEST_TOKEN,
        "HEADRACE_BILLING_SIGNING_KEY": "5a" * 32,
        "HEADRACE_BILLING_DRAIN_WAIT_SECONDS": "0.2",
        "HEADRACE_BILLING_PORT": str(port),
    }


@contextmanager
def running(module: str, *arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], env=env)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.05)


async def test_a_worker_killed_between_its_commit_and_its_push_loses_and_doubles_nothing(
    database: Database, database_url: str, valkey: Redis, valkey_url: str, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(), await seller.publish_prices())
    await valkey.set(channels.EPOCH, "1")
    events = [gateway.event() for _ in range(5)]
    for event in events:
        await hold_pending(valkey, event)
    await append(valkey, *events)
    env = environment(database_url, valkey_url)

    with running("tests.billing.ingest.killed_worker", env=env) as killed:
        assert await asyncio.to_thread(killed.wait, START_SECONDS) == -signal.SIGKILL
    async with database.begin() as session:
        committed = await books(session)
    assert committed["rollups"][0][6] == 5
    assert await acknowledged(valkey) == {}
    assert (await wallet_of(valkey, gateway.customer.wallet))["pend"] == 5 * SPENT_MICROS

    with running("headrace_billing", "worker", env=env) as worker:

        async def told() -> bool:
            wallet = await wallet_of(valkey, gateway.customer.wallet)
            return (
                await acknowledged(valkey) == {JOURNAL: 5}
                and (wallet["bal"], wallet["pend"]) == (5_000_000 - 5 * SPENT_MICROS, 0)
                and await valkey.xlen(channels.USAGE) == 1
            )

        await until(told)
        await append(valkey, *events, gateway.event())  # all of it once more, and one that is new

        async def booked() -> bool:
            async with database.begin() as session:
                return bool((await books(session))["rollups"][0][6] == 6)

        await until(booked)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, START_SECONDS) == 0
    async with database.begin() as session:
        conflicts = await session.execute(text("SELECT count(*) FROM usage_conflicts"))
        assert conflicts.scalar_one() == 0


async def test_the_api_migrates_serves_and_stops_by_its_commands(
    postgres_server: PostgresServer,
    valkey_url: str,
    valkey: Redis,
    unused_port: Callable[[], int],
) -> None:
    port = unused_port()
    env = environment(postgres_server.create_database(), valkey_url, port)
    with running("headrace_billing", "migrate", env=env) as migration:
        assert await asyncio.to_thread(migration.wait, START_SECONDS) == 0
    with running("headrace_billing", "api", env=env) as api, running("headrace_billing", "worker", env=env):
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(ready)
            seller = Seller(http)
            customer = await seller.customer()
            assert await seller.balance(customer.wallet) == "5.00"
            await seller.publish_prices()
        api.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(api.wait, START_SECONDS) == 0
    assert (await wallet_of(valkey, customer.wallet))["bal"] == 5_000_000


def test_a_process_without_its_secrets_does_not_start_and_names_those_that_are_missing() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "headrace_billing", "api"],
        env={
            "HEADRACE_BILLING_SIGNING_KEY": "too-short-5a5a",
            "HEADRACE_BILLING_ADMIN_TOKEN": "short-hunter2",
        },
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert result.returncode != 0
    for name in ("database_url", "valkey_url", "ingest_token", "admin_token", "signing_key"):
        assert name in result.stderr
    assert "hunter2" not in result.stderr
    assert "5a5a" not in result.stderr
