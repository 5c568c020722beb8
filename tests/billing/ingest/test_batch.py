"""Usage comes in any order, more than once, in any batches: the books say the same."""

from dataclasses import asdict

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace_billing.database import Database
from headrace_billing.ingest.batch import Ingested
from headrace_billing.ingest.store import SELECT_KNOWN, SELECT_STORED
from headrace_contracts.ingest import EventOutcome
from headrace_contracts.usage import Disposition, ServiceTier, TokenCounts, encode_event
from tests.billing.ingest.usage import RECEIVED, Gateway, books, take
from tests.billing.seller import MODEL, Seller
from tests.support.postgres import PostgresServer

INPUT_NANOS, OUTPUT_NANOS = 30_000, 90_000  # a token, at the prices of the tests


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    price_book = await seller.publish_prices()
    return Gateway(await seller.customer(), price_book)


def outcomes(result: Ingested) -> list[EventOutcome]:
    return [verdict.outcome for verdict in result.verdicts]


async def balances(database: Database) -> dict[str, int]:
    async with database.begin() as session:
        rows = (await books(session))["balances"]
    return {kind: int(amount) for kind, _, _, amount in rows}


async def test_prepaid_usage_earns_revenue_and_burns_credit_in_one_transaction(
    database: Database, gateway: Gateway
) -> None:
    await take(
        database, gateway.event(tokens=TokenCounts(input_uncached=100, output_visible=10, reasoning=2))
    )
    spent = 100 * INPUT_NANOS + 12 * OUTPUT_NANOS
    assert await balances(database) == {
        "manual_grants": 5_000_000_000,
        "wallet_paid": -5_000_000_000 + spent,
        "unbilled": spent,
        "revenue_tokens": -spent,
        "wallet_applied": -spent,
    }


async def test_payg_usage_is_unbilled_revenue_and_touches_no_wallet(
    database: Database, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(credit=None, disposition="payg"), await seller.publish_prices())
    await take(database, gateway.event(disposition=Disposition.PAYG))
    spent = 10 * INPUT_NANOS + 5 * OUTPUT_NANOS
    assert await balances(database) == {"unbilled": spent, "revenue_tokens": -spent}


async def test_usage_inside_a_task_posts_nothing_and_keeps_its_list_price(
    database: Database, gateway: Gateway
) -> None:
    before = await balances(database)
    await take(database, gateway.event(disposition=Disposition.OUTCOME_BUNDLED, task="tsk_1"))
    assert await balances(database) == before
    async with database.begin() as session:
        (rollup,) = (await books(session))["rollups"]
    assert rollup[5:7] == ("outcome_bundled", 1)
    assert rollup[-1] == (10 * INPUT_NANOS + 5 * OUTPUT_NANOS) * 10**9


async def test_usage_beyond_the_credit_becomes_overdraft_and_ingest_does_not_fail(
    database: Database, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(credit="0.0001"), await seller.publish_prices())
    await take(database, gateway.event())
    assert await seller.balance(gateway.customer.wallet) == "-0.00065"
    assert (await balances(database))["overdraft"] == 10 * INPUT_NANOS + 5 * OUTPUT_NANOS - 100_000


async def test_the_same_event_again_is_a_duplicate_whatever_way_it_comes(
    database: Database, gateway: Gateway
) -> None:
    event = gateway.event()
    assert outcomes(await take(database, event, event)) == [EventOutcome.ACCEPTED, EventOutcome.DUPLICATE]
    async with database.begin() as session:
        before = await books(session)
    assert outcomes(await take(database, event)) == [EventOutcome.DUPLICATE]
    async with database.begin() as session:
        assert await books(session) == before


async def test_a_duplicate_is_known_again_by_a_release_that_has_learned_new_fields(
    database: Database, gateway: Gateway
) -> None:
    event = gateway.event()
    await take(database, event)
    older = msgspec.json.decode(encode_event(event))
    for name in ("session", "task", "other_units", "engine_usage", "attempts"):
        del older[name]  # as an older gateway, that knew no such field, would have sent it
    assert outcomes(await take(database, msgspec.json.encode(older))) == [EventOutcome.DUPLICATE]


async def test_the_same_identity_with_other_content_is_kept_aside_and_posts_nothing(
    database: Database, gateway: Gateway
) -> None:
    event = gateway.event()
    await take(database, event)
    async with database.begin() as session:
        before = await books(session)
    other = msgspec.structs.replace(event, tokens=TokenCounts(input_uncached=11, output_visible=5))
    result = await take(database, other, other)
    assert outcomes(result) == [EventOutcome.CONFLICT, EventOutcome.CONFLICT]
    assert result.safe == {("gateway-0.0", "boot-1"): 1}
    async with database.begin() as session:
        assert await books(session) == before
        kept = await session.execute(text("SELECT count(*) FROM usage_conflicts"))
        assert kept.scalar_one() == 1


@pytest.mark.parametrize("final_tokens", [3, 5, 9])
async def test_a_final_event_posts_the_signed_difference_to_its_estimate(
    database: Database, gateway: Gateway, final_tokens: int
) -> None:
    final = gateway.event(tokens=TokenCounts(input_uncached=10, output_visible=final_tokens))
    await take(database, gateway.estimate(final.id))
    assert (await balances(database))["unbilled"] == 10 * INPUT_NANOS + 5 * OUTPUT_NANOS
    await take(database, final)
    assert (await balances(database))["unbilled"] == 10 * INPUT_NANOS + final_tokens * OUTPUT_NANOS
    async with database.begin() as session:
        (row,) = (await books(session))["events"]
        (rollup,) = (await books(session))["rollups"]
    assert (row[1], row[3]) == (1, final_tokens)
    assert (rollup[6], rollup[10]) == (1, final_tokens)


async def test_an_estimate_after_the_final_event_counts_nothing(database: Database, gateway: Gateway) -> None:
    final = gateway.event()
    await take(database, final)
    async with database.begin() as session:
        before = await books(session)
    result = await take(database, gateway.estimate(final.id, tokens=TokenCounts(output_visible=99)))
    assert outcomes(result) == [EventOutcome.ACCEPTED]
    async with database.begin() as session:
        assert await books(session) == before


async def test_an_estimate_advances_no_journal(database: Database, gateway: Gateway) -> None:
    result = await take(database, gateway.estimate(gateway.event().id))
    assert result.safe == {}


async def test_a_gap_in_the_journal_is_not_acknowledged_over(database: Database, gateway: Gateway) -> None:
    first, second, third = gateway.event(), gateway.event(), gateway.event()
    assert (await take(database, first, third)).safe == {("gateway-0.0", "boot-1"): 1}
    assert (await take(database, second)).safe == {("gateway-0.0", "boot-1"): 3}


BAD: dict[str, dict[str, object]] = {
    "undecodable": {"tokens": 7},
    "id_is_no_uuid": {"id": "not-a-uuid"},
    "unknown_project": {"project": "prj_nobody"},
    "unknown_project of another org": {"org": "org_other"},
    "unknown_key": {"key": "key_nobody"},
    "unknown_wallet": {"wallet": "wal_nobody"},
    "unknown_price_book": {"price_book": "pb_nowhere"},
    "model_not_in_price_book": {"model_served": "glm-unpriced"},
    "count_out_of_range": {"tokens": {"output_visible": -1}},
    "time_out_of_range": {"received_at_us": 10**18},
    "label_too_long": {"session": "s" * 257},
    "label_too_long of an end user": {"end_user": "u" * 257},
    "refused_by_the_database": {"session": "a\x00b"},
}


@pytest.mark.parametrize("reason", BAD)
async def test_a_bad_event_is_kept_aside_with_its_reason_and_the_rest_goes_through(
    database: Database, gateway: Gateway, reason: str
) -> None:
    good = [gateway.event() for _ in range(4)]
    raw = msgspec.json.encode({**msgspec.json.decode(encode_event(good[2])), **BAD[reason]})
    result = await take(database, *good[:2], raw, good[3])
    assert outcomes(result) == [
        EventOutcome.ACCEPTED,
        EventOutcome.ACCEPTED,
        EventOutcome.QUARANTINED,
        EventOutcome.ACCEPTED,
    ]
    assert str(result.verdicts[2].reason).startswith(reason.partition(" ")[0].rstrip(":"))
    async with database.begin() as session:
        (kept,) = (await session.execute(text("SELECT raw FROM usage_quarantine"))).scalars()
        assert bytes(kept) == raw
        assert len((await books(session))["events"]) == 3
    # Its sequence counts as received: the gateway need not send it forever.
    assert result.safe == {("gateway-0.0", "boot-1"): 4}


token_counts = st.builds(TokenCounts, **{n: st.integers(0, 40) for n in TokenCounts.__struct_fields__})
odd_prices = {"input_uncached": "0.1639", "cache_read": "0.00007", "cache_write": "1.1", "output": "2.200001"}


PRICES_OF_ALL_KINDS = {
    "input_uncached": {"kind": "graduated", "tiers": [{"up_to": 50, "price": "0.1639"}, {"price": "0.03"}]},
    "cache_read": {"kind": "package", "price": "0.000001", "package_tokens": 32},
    "cache_write": {"kind": "flat", "price": "1.1", "maximum_charge": "0.00003"},
    "output": {"kind": "volume", "tiers": [{"up_to": 60, "price": "2.200001"}, {"price": "1.1"}]},
    "windows": {"early": "1.5"},
    "batch": "0.5",
}
EARLY = {
    "weekdays": [0, 1, 2, 3, 4, 5, 6],
    "begins_minute": 480,
    "ends_minute": 600,
    "utc_offset_minutes": 480,
}


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), requests=st.lists(st.tuples(token_counts, token_counts, st.booleans()), max_size=7))
async def test_shuffled_doubled_and_split_batches_leave_identical_books(
    *,
    seller: Seller,
    database: Database,
    database_url: str,
    postgres_server: PostgresServer,
    data: st.DataObject,
    requests: list[tuple[TokenCounts, TokenCounts, bool]],
) -> None:
    prices = data.draw(st.sampled_from([odd_prices, PRICES_OF_ALL_KINDS]))
    body = {"currency": "USD", "models": {MODEL: prices}, "windows": {"early": EARLY}}
    price_book = await seller.post("/v1/price-books", {**body, "confirm_large_changes": True})
    gateway = Gateway(await seller.customer(credit="0.00001"), price_book["id"])
    await seller.grant("0.00001", wallet=gateway.customer.wallet, kind="promo")
    events = []
    for final, estimate, estimated in requests:
        hour = RECEIVED.replace(hour=data.draw(st.integers(0, 3)), month=data.draw(st.integers(10, 11)))
        tier = data.draw(st.sampled_from(ServiceTier))
        event = gateway.event(tokens=final, received_at=hour, service_tier=tier)
        events.append(event)
        if estimated:
            events.append(gateway.estimate(event.id, tokens=estimate, received_at=hour, service_tier=tier))
    # A second database begins as a copy of this one, so that ids and prices are the same in both.
    await database.engine.dispose()
    twin = Database(postgres_server.create_database(template=database_url.rpartition("/")[2]))
    try:
        for event in events:
            await take(database, event)
        arriving = data.draw(st.permutations(events + events[: len(events) // 2]))
        while arriving:
            size = data.draw(st.integers(1, len(arriving)))
            await take(twin, *arriving[:size])
            arriving = arriving[size:]
        async with database.begin() as one, twin.begin() as other:
            assert await books(one) == await books(other)
    finally:
        await twin.close()


async def test_rollups_rated_quantities_and_ledger_agree_to_the_last_nano_unit(
    database: Database, seller: Seller
) -> None:
    gateway = Gateway(await seller.customer(), await seller.publish_prices(odd_prices))
    for n in range(20):
        await take(
            database, gateway.event(tokens=TokenCounts(input_uncached=7 * n, cache_read=n, reasoning=3))
        )
    async with database.begin() as session:
        attos, charged, posted = (
            await session.execute(
                text("""
                    SELECT (SELECT sum(list_attos) FROM usage_rollups),
                           (SELECT sum(charge_nanos) FROM rated_usage),
                           (SELECT amount_nanos FROM ledger_balances WHERE kind = 'unbilled')
                """)
            )
        ).one()
    assert charged == posted
    # Three token classes were used; each is rounded once, by at most half a nano-unit.
    assert abs(attos - charged * 10**9) <= 3 * 10**9 / 2


@pytest.mark.parametrize("field", ["price_book", "model_served", "batch"])
async def test_the_database_takes_no_event_that_refers_to_nothing(
    database: Database, gateway: Gateway, field: str
) -> None:
    await take(database, gateway.event())
    absent = "batch + 1" if field == "batch" else "'nothing'"
    columns = "producer, boot, sequence, org, project, key, wallet, currency, deployment, model_requested, dialect, received_at"
    columns += ", finished_at, ending, attempts, tokens_input_uncached, tokens_cache_read, tokens_cache_write"
    columns += ", tokens_output_visible, tokens_reasoning, disposition, payload, payload_hash"
    others = ", ".join({"price_book", "model_served", "batch"} - {field})
    with pytest.raises(IntegrityError, match="not there"):
        async with database.begin() as session:
            await session.execute(
                text(f"""
                    INSERT INTO usage_events (id, grade, {field}, {others}, {columns})
                    SELECT gen_random_uuid(), 0, {absent}, {others}, {columns} FROM usage_events
                """)  # noqa: S608 - constants
            )


def test_an_ingested_result_of_two_halves_holds_both() -> None:
    one, other = Ingested(posted={"w": ["a"]}), Ingested(posted={"w": ["b"], "v": ["c"]})
    assert asdict(one.then(other))["posted"] == {"w": ["a", "b"], "v": ["c"]}


async def test_what_a_batch_looks_up_is_found_by_index_in_a_table_that_nobody_has_analysed(
    database: Database, gateway: Gateway
) -> None:
    await take(database, *(gateway.event() for _ in range(2000)))
    ids = "{" + ",".join(gateway.event().id for _ in range(2000)) + "}"
    async with database.begin() as session:
        for statement in (SELECT_KNOWN, SELECT_STORED):
            plan = "\n".join(
                await session.scalars(text(f"EXPLAIN {statement.text}"), {"ids": ids}),
            )
            assert "Index Scan" in plan, plan
            assert "Seq Scan" not in plan, plan
