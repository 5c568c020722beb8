"""The ledger on a real Postgres: what it refuses whoever asks, and what its projections promise."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace_billing.database import Database
from headrace_billing.errors import IdempotencyConflict
from headrace_billing.ledger import store, wallets
from headrace_billing.ledger.transaction import (
    Account,
    AccountKind,
    Posting,
    Transaction,
    TransactionKind,
    business,
    move,
    reversal,
)
from tests.billing.ledger.books import NOW, ORG, USD, WALLET, grant, open_wallet, remaining, use

UNBILLED = Account(AccountKind.UNBILLED, ORG, USD)
REVENUE = business(AccountKind.REVENUE_TOKENS, USD)


def sale(key: str = "sale", amount_nanos: int = 7) -> Transaction:
    return Transaction(
        key=key,
        kind=TransactionKind.USAGE,
        currency=USD,
        occurred_at=NOW,
        postings=move(amount_nanos, debit=UNBILLED, credit=REVENUE),
    )


async def test_posting_moves_both_balances(database: Database) -> None:
    async with database.begin() as session:
        await store.post(session, sale())
    async with database.begin() as session:
        assert await store.balance(session, UNBILLED) == 7
        assert await store.balance(session, REVENUE) == -7
        assert (await store.trial_balance(session)).by_currency == {USD: 0}


async def test_the_same_key_with_the_same_content_is_posted_once(database: Database) -> None:
    async with database.begin() as session:
        first = await store.post(session, sale())
    async with database.begin() as session:
        assert await store.post(session, sale()) == first
        assert await store.balance(session, UNBILLED) == 7


async def test_the_same_key_with_other_content_is_a_conflict_and_leaves_nothing(database: Database) -> None:
    async with database.begin() as session:
        await store.post(session, sale())
    with pytest.raises(IdempotencyConflict, match="sale"):
        async with database.begin() as session:
            await store.post_all(session, [sale("other"), sale("sale", 8)])
    async with database.begin() as session:
        assert await store.balance(session, UNBILLED) == 7


async def test_two_sessions_posting_one_key_at_once_post_it_once(database: Database) -> None:
    async def attempt() -> int:
        async with database.begin() as session:
            return await store.post(session, sale())

    assert len(set(await asyncio.gather(*(attempt() for _ in range(4))))) == 1
    async with database.begin() as session:
        assert await store.balance(session, UNBILLED) == 7


def test_an_unbalanced_transaction_can_not_even_be_built() -> None:
    with pytest.raises(AssertionError, match="add up to 1"):
        replace(sale(), postings=(Posting(UNBILLED, 8), Posting(REVENUE, -7)))


async def test_the_database_itself_refuses_an_unbalanced_transaction(database: Database) -> None:
    with pytest.raises(IntegrityError, match="does not add up to zero"):
        async with database.begin() as session:
            await session.execute(
                text("""
                    WITH t AS (INSERT INTO ledger_transactions (key, payload_hash, kind, currency, occurred_at)
                               VALUES ('raw', sha256(''), 'usage', 'USD', now()) RETURNING id)
                    INSERT INTO ledger_postings (transaction_id, kind, owner, currency, amount_nanos)
                    SELECT id, 'unbilled', 'org_a', 'USD', 5 FROM t
                """)
            )
    async with database.begin() as session:
        assert await store.balance(session, UNBILLED) == 0


@pytest.mark.parametrize("table", ["ledger_transactions", "ledger_postings"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = DEFAULT", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_the_database_itself_refuses_to_change_history(
    database: Database, table: str, statement: str
) -> None:
    async with database.begin() as session:
        await store.post(session, sale())
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.begin() as session:
            await session.execute(text(statement.format(table)))


async def test_a_transaction_that_stands_takes_no_more_postings(database: Database) -> None:
    async with database.begin() as session:
        await store.post(session, sale())
    with pytest.raises(IntegrityError, match="takes no more postings"):
        async with database.begin() as session:
            await session.execute(
                text("""
                    INSERT INTO ledger_postings (transaction_id, kind, owner, currency, amount_nanos)
                    SELECT id, 'unbilled', 'org_a', 'USD', unnest(ARRAY[5, -5]) FROM ledger_transactions
                """)
            )


async def test_the_database_itself_refuses_a_lot_below_zero(database: Database) -> None:
    async with database.begin() as session:
        await open_wallet(session)
        await grant(session, 10, lot="lot_a")
    paid = Account(AccountKind.WALLET_PAID, WALLET, USD)
    with pytest.raises(IntegrityError, match="credit_lot_not_below_zero"):
        async with database.begin() as session:
            await store.post(
                session,
                replace(sale(), postings=(Posting(paid, 11, "lot_a"), Posting(REVENUE, -11))),
            )


async def test_the_database_itself_refuses_a_posting_to_another_wallets_lot(database: Database) -> None:
    async with database.begin() as session:
        await open_wallet(session)
        await open_wallet(session, wallet="wal_b")
        await grant(session, 10, lot="lot_a")
    other = Account(AccountKind.WALLET_PAID, "wal_b", USD)
    with pytest.raises(IntegrityError, match="foreign key"):
        async with database.begin() as session:
            await store.post(
                session, replace(sale(), postings=(Posting(other, 1, "lot_a"), Posting(REVENUE, -1)))
            )


async def test_concurrent_burns_never_take_a_lot_below_zero_and_lose_nothing(database: Database) -> None:
    async with database.begin() as session:
        await open_wallet(session)
        await grant(session, 50, lot="lot_a")
        await grant(session, 25, lot="lot_b")
    await asyncio.gather(*(use(database, 9, key=f"use:{n}") for n in range(10)))
    async with database.begin() as session:
        assert await remaining(session) == {"lot_a": 0, "lot_b": 0}
        (wallet,) = await wallets.balances(session, [WALLET])
        assert wallet.balance_nanos == 75 - 90
        assert wallet.version == 1 + 2 + 10  # opened, two grants, ten burns


async def test_taking_ahead_more_than_there_is_is_refused(database: Database) -> None:
    async with database.begin() as session:
        await open_wallet(session)
        await grant(session, 10, lot="lot_a")
    with pytest.raises(wallets.InsufficientBalance):
        async with database.begin() as session:
            await wallets.take(session, WALLET, 11, project=None)


async def test_a_reversal_goes_back_to_the_lots_it_came_from_and_not_to_todays_first(
    database: Database,
) -> None:
    async with database.begin() as session:
        await open_wallet(session)
        await grant(session, 10, lot="lot_a")
    async with database.begin() as session:
        taken = await wallets.take(session, WALLET, 6, project=None)
        reserved = Account(AccountKind.OUTCOME_RESERVED, ORG, USD)
        original = Transaction(
            key="reserve",
            kind=TransactionKind.OUTCOME_RESERVED,
            currency=USD,
            occurred_at=NOW,
            postings=(*taken, Posting(reserved, -6)),
        )
        await store.post(session, original)
        await grant(session, 10, lot="lot_first_today", priority=1)
    async with database.begin() as session:
        recorded = await store.transaction_by_key(session, "reserve")
        assert recorded == original
        assert recorded is not None
        await store.post(session, reversal(recorded, key="release", occurred_at=NOW))
    async with database.begin() as session:
        assert await remaining(session) == {"lot_a": 10, "lot_first_today": 10}
        assert await store.balance(session, reserved) == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(uses=st.lists(st.integers(1, 40), max_size=8), data=st.data())
async def test_balances_rebuild_identically_whatever_was_posted(
    database: Database, uses: list[int], data: st.DataObject
) -> None:
    run = uuid4().hex  # the database outlives the example
    wallet = f"wal_{run}"
    async with database.begin() as session:
        await open_wallet(session, wallet=wallet)
        await grant(session, 60, lot=f"a{run}", wallet=wallet)
        await grant(session, 30, lot=f"b{run}", wallet=wallet, kind=AccountKind.WALLET_PROMO)
    used = 0
    for number, amount in enumerate(uses):
        signed = -min(amount, used) if data.draw(st.booleans()) else amount
        if signed:
            used += signed
            await use(database, signed, key=f"{run}:{number}", wallet=wallet)
    async with database.begin() as session:
        (before,) = await wallets.balances(session, [wallet])
        assert before.balance_nanos == 90 - used
        assert await store.rebuild(session) == []
        assert (await wallets.balances(session, [wallet])) == [before]


async def test_a_rebuild_names_and_mends_a_projection_that_was_tampered_with(database: Database) -> None:
    async with database.begin() as session:
        await open_wallet(session)
        await grant(session, 10, lot="lot_a")
        await session.execute(text("UPDATE credit_lots SET remaining_nanos = 99"))
        await session.execute(
            text("UPDATE ledger_balances SET amount_nanos = 1 WHERE kind = 'cash_clearing'")
        )
    async with database.begin() as session:
        assert await store.rebuild(session) == ["balance cash_clearing business USD", "lot lot_a"]
    async with database.begin() as session:
        assert await store.rebuild(session) == []
        assert await remaining(session) == {"lot_a": 10}
