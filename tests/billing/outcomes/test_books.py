"""What the database itself holds about outcomes, whoever writes."""

from datetime import timedelta
from itertools import product

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.outcomes.evidence import intact
from headrace_billing.outcomes.outcome import NEXT, OutcomeStatus
from headrace_billing.outcomes.store import evidence_of
from tests.billing.outcomes.market import Market


async def test_what_was_proven_can_not_be_changed(market: Market) -> None:
    await market.solve()
    for table in ("evidence", "verifications", "outcome_history", "outcome_types"):
        for change in ("UPDATE {} SET id = DEFAULT", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
            async with market.database.engine.connect() as connection:
                with pytest.raises(DBAPIError, match="append-only"):
                    await connection.execute(text(change.format(table)))


async def test_evidence_whose_hash_is_another_contents_is_refused(market: Market) -> None:
    outcome = await market.solve()
    async with market.database.engine.connect() as connection:
        with pytest.raises(IntegrityError, match="evidence_check"):
            await connection.execute(
                text("""
                    INSERT INTO evidence (id, outcome, observer_grade, observer_id, content, sha256, signature,
                                          recorded_at)
                    VALUES ('e', :outcome, 'A', 'x', '{}', repeat('0', 64), 's', now())
                """),
                {"outcome": outcome["id"]},
            )


async def test_stored_evidence_is_intact_under_the_signing_key(market: Market) -> None:
    outcome = await market.solve()
    async with market.database.begin() as session:
        (evidence,) = await evidence_of(session, outcome["id"])
    assert intact(evidence, market.parts.signing_key)
    assert not intact(evidence, b"another key")


async def test_the_database_moves_outcomes_exactly_as_the_table_says(market: Market) -> None:
    outcome = await market.solve()
    await market.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})
    for current, to in product(OutcomeStatus, OutcomeStatus):
        if current is to:
            continue
        async with market.database.engine.connect() as connection:
            # Past the trigger, to put the row where the move begins; all of it is rolled back.
            await connection.execute(
                text("ALTER TABLE outcomes DROP CONSTRAINT invoiced_outcome_names_its_invoice")
            )
            await connection.execute(text("ALTER TABLE outcomes DISABLE TRIGGER outcome_must_move_legally"))
            await connection.execute(text("UPDATE outcomes SET status = :s"), {"s": current})
            await connection.execute(text("ALTER TABLE outcomes ENABLE TRIGGER outcome_must_move_legally"))
            try:
                await connection.execute(text("UPDATE outcomes SET status = :s"), {"s": to})
                moved = True
            except DBAPIError as refused:
                assert "can not go from" in str(refused)  # noqa: PT017
                moved = False
            assert moved == (to in NEXT[current]), f"{current} → {to}"
            await connection.rollback()


async def test_two_billable_outcomes_for_one_object_are_refused(market: Market) -> None:
    outcome = await market.solve()
    await market.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})
    async with market.database.engine.connect() as connection:
        with pytest.raises(IntegrityError, match="one_billable_outcome"):
            await connection.execute(
                text("""
                    WITH t AS (
                      INSERT INTO tasks SELECT 'task_2', org, project, wallet, outcome_type, outcome_name, dedupe_key,
                        status, reserved, cost_guard_micros, opened_at, evidence_due_at, closed_at FROM tasks
                      RETURNING id
                    ), a AS (INSERT INTO attempts SELECT id, 1, now() FROM t RETURNING task, number)
                    INSERT INTO outcomes (id, task, attempt, org, project, outcome_type, outcome_name, dedupe_key,
                                          status, reported_at, accepted_at, accepted_as, accepted_by)
                    SELECT 'outcome_2', a.task, a.number, org, project, outcome_type, outcome_name, dedupe_key,
                           status, o.reported_at, accepted_at, accepted_as, accepted_by FROM outcomes o, a
                """)
            )


async def test_a_reservation_goes_back_to_the_very_lots_even_when_one_has_expired(market: Market) -> None:
    wallet = market.customer.wallet
    market.clock.passes(seconds=1)
    expires = (market.clock.now + timedelta(hours=1)).isoformat()
    body = {"wallet": wallet, "amount": "0.10", "currency": "USD", "kind": "promo", "reason": "welcome"}
    promo = await market.seller.post("/v1/credit-grants", {**body, "expires_at": expires})
    task = await market.open_task()  # 0.10 of the promotion, 0.15 of what was paid
    assert await lots(market) == {promo["id"]: "0.00", "paid": "4.85"}

    market.clock.passes(hours=2)
    await market.seller.grant("1.00", wallet=wallet, kind="promo")  # would burn first by now
    outcome = await market.report(task["id"], await market.use(task["id"]), answer="43")
    assert outcome["status"] == "rejected"
    assert (await lots(market))[promo["id"]] == "0.10"
    assert (await lots(market))["paid"] == "5.00"

    await expire_lots(market.database, now=market.clock.now)
    assert await market.balance() == "6.00"


async def lots(market: Market) -> dict[str, str]:
    """What is left in each lot; the customer's first one is called `paid`."""
    async with market.database.begin() as session:
        rows = await session.execute(
            text(
                "SELECT id, round(remaining_nanos / 1e9, 2)::text AS left FROM credit_lots ORDER BY opened_at, id"
            )
        )
        found = {row.id: row.left for row in rows}
    first = next(iter(found))
    return {("paid" if lot == first else lot): left for lot, left in found.items()}
