"""Usage comes by the stream, by journals and by meters, in any order, more than once: the books say the same."""

from datetime import timedelta

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.ingest import jobs
from headrace_billing.meters import store
from headrace_billing.meters.reading import read
from headrace_billing.meters.reporting import report
from headrace_contracts.usage import UsageEvent
from tests.billing.ingest.test_jobs import append
from tests.billing.ingest.usage import Gateway, books, take
from tests.billing.meters.reporter import Reporter
from tests.billing.seller import NOW, Document
from tests.support.postgres import PostgresServer

Item = UsageEvent | Document
counts = st.integers(0, 40)


async def send(database: Database, meter_id: str, *events: Document) -> None:
    async with database.begin() as session:
        meter = await store.read(session, meter_id)
    items = [read(msgspec.json.encode(event), meter) for event in events]
    await report(database, meter, items, now=NOW)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), tokens=st.lists(st.tuples(counts, counts, st.booleans()), max_size=8))
async def test_stream_journals_and_meters_mixed_shuffled_doubled_and_split_leave_identical_books(
    *,
    reporter: Reporter,
    price_book: str,
    database: Database,
    database_url: str,
    postgres_server: PostgresServer,
    valkey: Redis,
    data: st.DataObject,
    tokens: list[tuple[int, int, bool]],
) -> None:
    boot = data.draw(st.uuids())
    gateway = Gateway(reporter.customer, price_book, boot=str(boot))
    items: list[Item] = []
    for number, (fresh, output, metered) in enumerate(tokens):
        at = NOW - timedelta(hours=data.draw(st.integers(1, 30)))
        if metered:
            used: dict[str, object] = {"input_uncached": fresh, "output_visible": output}
            source = f"//meter/{boot}"
            items.append(reporter.event(at=at, tokens=used, source=source, id=str(number)))
        else:
            counted = gateway.event(received_at=at)
            items.append(counted)
            if fresh % 2:
                items.append(gateway.estimate(counted.id, received_at=at))
    await database.engine.dispose()
    twin = Database(postgres_server.create_database(template=database_url.rpartition("/")[2]))
    try:
        for item in items:
            if isinstance(item, UsageEvent):
                await take(twin, item)
            else:
                await send(twin, reporter.id, item)
        arriving = data.draw(st.permutations(items + items[: len(items) // 2]))
        while arriving:
            size = data.draw(st.integers(1, len(arriving)))
            batch, arriving = arriving[:size], arriving[size:]
            usage = [one for one in batch if isinstance(one, UsageEvent)]
            if data.draw(st.booleans()):
                await append(valkey, *usage)
            else:
                await take(database, *usage)
            await send(database, reporter.id, *(one for one in batch if not isinstance(one, UsageEvent)))
            if data.draw(st.booleans()):
                await jobs.take_from_stream(database, valkey)
        await jobs.take_from_stream(database, valkey)
        async with database.begin() as one, twin.begin() as other:
            assert await books(one) == await books(other)
    finally:
        await twin.close()
