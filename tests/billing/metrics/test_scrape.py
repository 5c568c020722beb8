"""What scrapes of billing's processes say, after usage of which everything is known."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import httpx2
import pytest
import redis
from pydantic import ValidationError
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.app import compose
from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.batches.jobs import Batches
from headrace_billing.database import Database
from headrace_billing.metrics.catalogue import CATALOGUE
from headrace_billing.metrics.figures import Figures
from headrace_billing.metrics.http import connections
from headrace_billing.metrics.loops import LoopCounts
from headrace_billing.parts import Parts
from headrace_billing.reconciliation.jobs import look_around
from headrace_billing.settings import ApiSettings, from_environment
from headrace_billing.worker import Loop, run_loops
from headrace_contracts import channels
from headrace_contracts.usage import encode_event
from headrace_telemetry.metrics import Sample
from headrace_telemetry.scrape import serve_metrics
from tests.billing.ingest.test_jobs import append
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Seller
from tests.billing.test_processes import environment, running, until
from tests.support.metrics import scrape, value
from tests.support.valkey import bounded

API = {"headrace_billing_http_requests_total", "headrace_billing_http_request_seconds"}
GATEWAY = "http://127.0.0.1:9"


def of(samples: list[Sample], metric: str, *labels: str) -> float:
    (found,) = [one for one in samples if (one.metric, one.labels) == (metric, labels)]
    return found.value


async def looked(figures: Figures, database: Database, valkey: Redis) -> list[Sample]:
    await figures.look(database, valkey)
    return list(figures.samples())


async def test_a_worker_tells_what_came_in_what_was_posted_and_what_stands_aside(
    database: Database, valkey: Redis, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(credit="5.00"), await seller.publish_prices())
    figures = Figures()
    before = await looked(figures, database, valkey)
    assert of(before, "headrace_billing_ingested_events_total", "journal") == 0
    postings = of(before, "headrace_billing_ledger_postings_total")

    await take(database, *[gateway.event() for _ in range(3)], b"no event")
    again = gateway.event()
    await take(database, again)
    await take(database, gateway.event(request=again.id, sequence=again.sequence, attempts=7))
    await take(database, gateway.event(sequence=gateway.sequence + 5), source="stream")
    after = await looked(figures, database, valkey)

    assert of(after, "headrace_billing_ingested_events_total", "journal") == 6
    assert of(after, "headrace_billing_ingested_events_total", "stream") == 1
    assert of(after, "headrace_billing_quarantined_events") == 1
    assert of(after, "headrace_billing_conflicting_events") == 1
    assert of(after, "headrace_billing_ledger_postings_total") > postings
    revenue = of(after, "headrace_billing_ledger_balance", "revenue_tokens", "USD")
    async with database.begin() as session:
        nanos = (
            await session.execute(
                text("SELECT sum(amount_nanos) FROM ledger_balances WHERE kind = 'revenue_tokens'")
            )
        ).scalar_one()
    assert revenue == pytest.approx(float(nanos) / 1e9)
    assert revenue < 0

    assert of(after, "headrace_billing_balances_unpushed") == 1
    assert of(after, "headrace_billing_journals_with_gaps") == 0, "it may still come"
    async with database.begin() as session:
        await session.execute(text("UPDATE journals SET updated_at = now() - interval '2 minutes'"))
    assert of(await looked(figures, database, valkey), "headrace_billing_journals_with_gaps") == 1


async def test_the_streams_lag_is_the_age_of_what_is_not_committed(
    database: Database, valkey: Redis, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(), await seller.publish_prices())
    figures = Figures()
    assert of(await looked(figures, database, valkey), "headrace_billing_stream_lag_seconds") == 0
    seconds, _ = await valkey.time()
    await valkey.xadd(
        channels.USAGE, {channels.USAGE_FIELD: encode_event(gateway.event())}, id=f"{(seconds - 40) * 1000}-0"
    )
    lag = of(await looked(figures, database, valkey), "headrace_billing_stream_lag_seconds")
    assert 39 <= lag < 60


async def test_how_full_valkey_is_shows_beside_what_it_may_fill(
    database: Database, valkey: Redis, valkey_url: str
) -> None:
    figures = Figures()
    with redis.Redis.from_url(valkey_url) as client, bounded(client, 2**31):
        told = await looked(figures, database, valkey)
        memory: Any = client.info("memory")
    # Buffers come and go, and what the test before has left is freed by a thread.
    in_use = of(told, "headrace_billing_valkey_memory_bytes")
    assert in_use == pytest.approx(memory["used_memory"], rel=0.5)
    assert of(told, "headrace_billing_valkey_memory_max_bytes") == 2**31


async def test_a_payment_that_differs_from_stripe_s_books_shows_as_red(
    database: Database, valkey: Redis, seller: Seller
) -> None:
    now, figures = datetime.now(UTC), Figures()
    await look_around(database, now=now)
    assert of(await looked(figures, database, valkey), "headrace_billing_reconciliation_red") == 0
    async with database.begin() as session:
        await session.execute(DIFFERS, {"at": now})
    samples = await looked(figures, database, valkey)
    assert of(samples, "headrace_billing_reconciliation_red") == 1
    assert of(samples, "headrace_billing_unreconciled", "payment_differs") == 1


DIFFERS = text("""
    INSERT INTO payment_differences (id, reason, amount_minor, currency, booked_at, found_at)
    VALUES ('txn_1', 'unbooked', 1, 'USD', :at, :at)
""")


async def test_red_requests_show_until_they_are_mended(
    database: Database, valkey: Redis, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(), await seller.publish_prices())
    now = datetime.now(UTC)
    event = gateway.event(received_at=now - timedelta(hours=1))
    await take(database, event, gateway.event(received_at=now, witnessed=False))
    figures = Figures()

    await look_around(database, now=now)
    samples = await looked(figures, database, valkey)
    assert of(samples, "headrace_billing_reconciliation_red") == 1
    assert of(samples, "headrace_billing_unreconciled", "engine_record_missing") == 1
    assert of(samples, "headrace_billing_unexplained_tokens") == -15

    await tell(database, yielded(event))
    await look_around(database, now=now)
    samples = await looked(figures, database, valkey)
    assert of(samples, "headrace_billing_reconciliation_red") == 0
    assert of(samples, "headrace_billing_reconciled_requests") == 2
    assert of(samples, "headrace_billing_unwitnessed_requests") == 1
    assert of(samples, "headrace_billing_unexplained_tokens") == 0


async def test_a_loop_that_fails_is_told_and_one_that_goes_well_is_young() -> None:
    counts, stop = LoopCounts(), asyncio.Event()

    async def fail() -> bool:
        if [one for one in counts.samples() if one.value > 1]:
            stop.set()
        raise RuntimeError("broken")

    async def work() -> bool:
        return False

    await run_loops((Loop("bad", fail, 0.01), Loop("good", work, 0.01)), stop, counts)
    samples = list(counts.samples())
    assert of(samples, "headrace_billing_loop_failures_total", "bad") >= 2
    assert of(samples, "headrace_billing_loop_failures_total", "good") == 0
    ages = {one.labels: one.value for one in samples if one.metric == "headrace_billing_loop_age_seconds"}
    assert ages["bad",] > ages["good",]


async def test_the_api_counts_its_requests_by_route_and_tells_nobodys_id(
    parts: Parts, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    app = compose(replace(parts), scraped_at=("127.0.0.1", port))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as client:
            seller = Seller(client)
            customer = await seller.customer()
            await seller.get(f"/v1/wallets/{customer.wallet}")
            await client.get("/nowhere")
            assert (await client.get("/metrics")).status_code == 404
        seen = await asyncio.to_thread(scrape, port)
    requests = "headrace_billing_http_requests_total"
    assert value(seen, requests, method="GET", route="/v1/wallets/{wallet_id}", status="200") == 1
    assert value(seen, requests, method="POST", route="/v1/keys", status="201") == 1
    assert value(seen, requests, route="none", status="404") == 2
    assert value(seen, "headrace_billing_http_request_seconds_count", route="/v1/keys") == 1
    assert not any(customer.wallet in str(labels) for _, labels in seen)


async def test_a_workers_process_is_scraped_at_its_port(
    database_url: str,
    valkey: Redis,
    valkey_url: str,
    seller: Seller,
    unused_port: Callable[[], int],
) -> None:
    gateway = Gateway(await seller.customer(), await seller.publish_prices())
    await valkey.set(channels.EPOCH, "1")
    await append(valkey, gateway.event())
    port = unused_port()
    env = environment(database_url, valkey_url) | {
        "HEADRACE_BILLING_METRICS_PORT": str(port),
        "HEADRACE_BILLING_GATEWAY_URL": GATEWAY,
    }

    async def told() -> bool:
        try:
            seen = await asyncio.to_thread(scrape, port)
        except OSError:
            return False
        return {name for name, _ in seen} >= CATALOGUE.keys() - API - {"headrace_billing_unreconciled"}

    with running("headrace_billing", "worker", env=env):
        await until(told)


async def test_the_catalogue_is_what_is_told_and_no_more(
    database: Database, valkey: Redis, seller: Seller, unused_port: Callable[[], int]
) -> None:
    gateway = Gateway(await seller.customer(), await seller.publish_prices())
    now = datetime.now(UTC)
    await take(database, gateway.event(received_at=now - timedelta(hours=1)))
    figures, counts = Figures(), LoopCounts()
    counts.begun("stream")
    await look_around(database, now=now)
    await figures.look(database, valkey)
    port = unused_port()
    sent = Batches.through(
        GATEWAY, "secret", database=database, at_once_max=1, bounds=BatchBounds(), now=lambda: now
    )

    def samples() -> list[Sample]:
        told = (counts.samples(), figures.samples(), connections(database), sent.dispatcher.samples())
        return list(chain.from_iterable(told))

    scraping = serve_metrics(CATALOGUE, samples, host="127.0.0.1", port=port)
    told = {name for name, _ in await asyncio.to_thread(scrape, port)}
    scraping.close()
    await sent.close()
    assert told == CATALOGUE.keys() - API


@pytest.mark.parametrize("also", [{"METRICS_PORT": "8081"}, {"METRICS_PORT": "9091", "WORKERS": "2"}])
def test_metrics_have_a_port_that_is_neither_public_nor_shared(
    also: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, setting in environment("postgresql://a/b", "redis://a", 8081).items():
        monkeypatch.setenv(name, setting)
    for name, setting in also.items():
        monkeypatch.setenv(f"HEADRACE_BILLING_{name}", setting)
    with pytest.raises(ValidationError, match="metrics_port"):
        from_environment(ApiSettings)
