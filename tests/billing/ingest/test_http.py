"""The side doors: usage from journals and records from engines, over HTTP."""

import msgspec
import pytest
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_contracts.engine import EngineEnding, EngineRecord, EngineRecordBatch
from headrace_contracts.ingest import EventOutcome, UsageEventBatch, UsageEventReply
from headrace_contracts.usage import attempt_id
from tests.billing.ingest.usage import Gateway
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, Seller

EVENTS, RECORDS = "/internal/v1/usage-events", "/internal/v1/engine-records"
REQUEST = "01a2083c-fe00-7bd7-8e75-87dd7b6f0a7d"


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    return Gateway(await seller.customer(), await seller.publish_prices())


@pytest.fixture
def machine(seller: Seller) -> Seller:
    return Seller(seller.http, INGEST_TOKEN)


def record(ending: EngineEnding, **fields: object) -> EngineRecord:
    values: dict[str, object] = {
        "replica": "replica-1",
        "attempt": attempt_id(REQUEST, 1),
        "deployment": "dep-1",
        "model": "glm-tiny",
        "prompt": 10,
        "cached": 4,
        "output": 0 if ending is EngineEnding.STARTED else 7,
        "started_at_us": 1_795_000_000_000_000,
        **fields,
    }
    return EngineRecord(ending=ending, **values)  # type: ignore[arg-type]


async def send_records(machine: Seller, *records: EngineRecord) -> None:
    body = msgspec.to_builtins(EngineRecordBatch(records=list(records)))
    assert await machine.post(RECORDS, body) == {"stored": len(records)}


async def test_a_batch_from_a_journal_is_answered_event_by_event_and_says_how_far_it_is_safe(
    machine: Seller, gateway: Gateway
) -> None:
    first, gap, last = gateway.event(), gateway.event(), gateway.event()
    await machine.http.post(
        EVENTS,
        content=msgspec.json.encode(UsageEventBatch(events=[first])),
        headers={"authorization": f"Bearer {INGEST_TOKEN}"},
    )
    raw = b'{"events":[%s,%s,{"id":3}]}' % (msgspec.json.encode(first), msgspec.json.encode(last))
    answer = await machine.http.post(EVENTS, content=raw, headers={"authorization": f"Bearer {INGEST_TOKEN}"})
    reply = msgspec.json.decode(answer.content, type=UsageEventReply)
    assert [result.outcome for result in reply.results] == [
        EventOutcome.DUPLICATE,
        EventOutcome.ACCEPTED,
        EventOutcome.QUARANTINED,
    ]
    assert reply.results[1].id == last.id
    assert reply.acknowledged == {f"{gap.producer}:{gap.boot}": 1}


@pytest.mark.parametrize("path", [EVENTS, RECORDS])
@pytest.mark.parametrize("token", ["", ADMIN_TOKEN, "wrong"])
async def test_only_our_own_machines_may_send(seller: Seller, path: str, token: str) -> None:
    refusal = await seller.refused(path, {"events": []}, authorization=f"Bearer {token}")
    assert refusal == (401, "unauthenticated")


@pytest.mark.parametrize("path", [EVENTS, RECORDS])
@pytest.mark.parametrize(
    "body", [[], {}, {"events": 1, "records": 1}, {"events": [1] * 1001, "records": [1]}]
)
async def test_what_is_no_batch_is_a_problem_and_leaves_nothing(
    machine: Seller, database: Database, path: str, body: object
) -> None:
    assert await machine.refused(path, body) == (400, "invalid_request")
    async with database.begin() as session:
        for table in ("usage_quarantine", "ingest_batches", "engine_records"):
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0  # noqa: S608


async def test_an_empty_batch_is_fine(machine: Seller) -> None:
    assert await machine.post(EVENTS, {"events": []}) == {"results": [], "acknowledged": {}}


async def test_the_record_of_an_end_replaces_the_one_of_the_start_and_never_the_other_way(
    machine: Seller, database: Database
) -> None:
    started, finished = record(EngineEnding.STARTED), record(EngineEnding.FINISHED)
    for order in (
        [started],
        [finished, started],
        [started],
        [finished],
        [record(EngineEnding.ABORTED, output=3)],
    ):
        await send_records(machine, *order)
    async with database.begin() as session:
        (row,) = await session.execute(text("SELECT request_id::text, ending, output FROM engine_records"))
    assert tuple(row) == (REQUEST, "finished", 7)


async def test_a_probe_belongs_to_no_request(machine: Seller, database: Database) -> None:
    await send_records(machine, record(EngineEnding.FINISHED, attempt="cmpl-123", probe=True))
    async with database.begin() as session:
        (row,) = await session.execute(text("SELECT request_id, probe FROM engine_records"))
    assert tuple(row) == (None, True)


@pytest.mark.parametrize(
    "change",
    [
        {"cached": 11},
        {"output": -1},
        {"prompt": 10**13},
        {"replica": ""},
        {"attempt": "\x00"},
        {"started_at_us": -1},
    ],
)
async def test_a_record_that_no_engine_of_ours_would_write_is_refused_with_its_batch(
    machine: Seller, database: Database, change: dict[str, object]
) -> None:
    good = record(EngineEnding.FINISHED, attempt=attempt_id(REQUEST, 2))
    body = msgspec.to_builtins(EngineRecordBatch(records=[good, record(EngineEnding.FINISHED, **change)]))
    assert await machine.refused(RECORDS, body) == (400, "invalid_request")
    async with database.begin() as session:
        assert (await session.execute(text("SELECT count(*) FROM engine_records"))).scalar_one() == 0
