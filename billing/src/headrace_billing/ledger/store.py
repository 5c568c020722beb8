"""The ledger in Postgres: posting is idempotent by key, reading is by account, and projections can be rebuilt.

Postings of several transactions go in as one statement, whose triggers update balances in a fixed order. Whoever
posts for wallets locks them first (`ledger.wallets.lock`), in one call: then two sessions can't wait for each other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import IdempotencyConflict
from headrace_billing.ledger.transaction import Account, AccountKind, Posting, Transaction, TransactionKind


async def post(session: AsyncSession, transaction: Transaction) -> int:
    """The id of the transaction, posted now or before. Raises `IdempotencyConflict`."""
    return (await post_all(session, [transaction]))[0]


async def post_all(session: AsyncSession, transactions: Sequence[Transaction]) -> list[int]:
    """As `post` for each, in order; either all of them stand or none."""
    if not transactions:
        return []
    rows = [
        {
            "key": transaction.key,
            "payload_hash": transaction.payload_hash.hex(),
            "kind": transaction.kind,
            "currency": transaction.currency,
            "occurred_at": transaction.occurred_at.isoformat(),
            "memo": dict(transaction.memo),
        }
        for transaction in transactions
    ]
    inserted = await session.execute(INSERT_TRANSACTIONS, {"rows": json.dumps(rows)})
    fresh: dict[str, int] = {row.key: row.id for row in inserted}
    known = await _known(session, [t for t in transactions if t.key not in fresh])
    await session.execute(
        INSERT_POSTINGS, {"rows": json.dumps(_posting_rows(transactions, fresh), separators=(",", ":"))}
    )
    return [fresh.get(t.key) or known[t.key] for t in transactions]


async def transaction_by_key(session: AsyncSession, key: str) -> Transaction | None:
    """What was posted under `key`, with its recorded lots."""
    rows = (await session.execute(SELECT_TRANSACTION, {"key": key})).all()
    if not rows:
        return None
    return Transaction(
        key=key,
        kind=TransactionKind(rows[0].kind),
        currency=rows[0].currency,
        occurred_at=rows[0].occurred_at,
        memo=rows[0].memo,
        postings=tuple(
            Posting(
                Account(AccountKind(row.account_kind), row.owner, row.currency),
                int(row.amount_nanos),
                row.lot,
            )
            for row in rows
        ),
    )


async def balance(session: AsyncSession, account: Account) -> int:
    """Nano-units, debit positive."""
    found = await session.execute(
        SELECT_BALANCE, {"kind": account.kind, "owner": account.owner, "currency": account.currency}
    )
    return int(found.scalar_one_or_none() or 0)


@dataclass(frozen=True, slots=True)
class TrialBalance:
    by_account: Mapping[tuple[str, AccountKind], int]
    """(currency, kind) → nano-units, summed over owners, debit positive."""
    by_currency: Mapping[str, int]
    """Zero for each, or the ledger is broken."""


async def trial_balance(session: AsyncSession) -> TrialBalance:
    """Summed from the postings themselves, not from the projection."""
    by_account: dict[tuple[str, AccountKind], int] = {}
    by_currency: dict[str, int] = {}
    for row in await session.execute(SELECT_TRIAL_BALANCE):
        amount = int(row.amount_nanos)
        by_account[row.currency, AccountKind(row.kind)] = amount
        by_currency[row.currency] = by_currency.get(row.currency, 0) + amount
    return TrialBalance(by_account, by_currency)


async def rebuild(session: AsyncSession) -> list[str]:
    """Recomputes balances and lots from the postings; names each projection that was not what it must be."""
    await session.execute(text("LOCK TABLE ledger_postings, ledger_balances, credit_lots IN EXCLUSIVE MODE"))
    wrong = await projections_off(session)
    await session.execute(text("DELETE FROM ledger_balances"))
    await session.execute(text("INSERT INTO ledger_balances SELECT * FROM ledger_balances_recomputed"))
    await session.execute(REBUILD_LOTS)
    return wrong


async def projections_off(session: AsyncSession) -> list[str]:
    """Each balance and lot that is not what its postings say."""
    return [row.name for row in await session.execute(SELECT_PROJECTIONS_OFF)]


async def _known(session: AsyncSession, transactions: Sequence[Transaction]) -> dict[str, int]:
    if not transactions:
        return {}
    rows = await session.execute(SELECT_KNOWN, {"keys": [t.key for t in transactions]})
    known = {row.key: row for row in rows}
    for transaction in transactions:
        if bytes(known[transaction.key].payload_hash) != transaction.payload_hash:
            raise IdempotencyConflict(transaction.key)
    return {key: row.id for key, row in known.items()}


def _posting_rows(transactions: Sequence[Transaction], fresh: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "transaction_id": fresh[transaction.key],
            "kind": posting.account.kind,
            "owner": posting.account.owner,
            "currency": posting.account.currency,
            "amount_nanos": posting.amount_nanos,
            "lot": posting.lot,
        }
        for transaction in transactions
        if transaction.key in fresh
        for posting in transaction.postings
    ]


INSERT_TRANSACTIONS = text("""
    INSERT INTO ledger_transactions (key, payload_hash, kind, currency, occurred_at, memo)
    SELECT key, decode(payload_hash, 'hex'), kind, currency, occurred_at, memo
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
      AS r (key text, payload_hash text, kind text, currency text, occurred_at timestamptz, memo jsonb)
    ON CONFLICT (key) DO NOTHING
    RETURNING id, key
""")

INSERT_POSTINGS = text("""
    INSERT INTO ledger_postings (transaction_id, kind, owner, currency, amount_nanos, lot)
    SELECT transaction_id, kind, owner, currency, amount_nanos, lot
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
      AS r (transaction_id bigint, kind text, owner text, currency text, amount_nanos numeric, lot text)
""")

SELECT_KNOWN = text("SELECT id, key, payload_hash FROM ledger_transactions WHERE key = ANY(:keys)")

SELECT_TRANSACTION = text("""
    SELECT t.kind, t.currency, t.occurred_at, t.memo, p.kind AS account_kind, p.owner, p.amount_nanos, p.lot
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.key = :key ORDER BY p.id
""")

SELECT_BALANCE = text("""
    SELECT amount_nanos FROM ledger_balances
    WHERE kind = :kind AND owner = :owner AND currency = :currency
""")

SELECT_TRIAL_BALANCE = text("""
    SELECT currency, kind, sum(amount_nanos) AS amount_nanos
    FROM ledger_postings GROUP BY currency, kind ORDER BY currency, kind
""")

SELECT_PROJECTIONS_OFF = text("""
    SELECT 'balance ' || kind || ' ' || owner || ' ' || currency AS name FROM (
      (SELECT * FROM ledger_balances WHERE amount_nanos <> 0
       EXCEPT SELECT * FROM ledger_balances_recomputed)
      UNION
      (SELECT * FROM ledger_balances_recomputed WHERE amount_nanos <> 0
       EXCEPT SELECT * FROM ledger_balances)
    ) AS off
    UNION
    SELECT 'lot ' || l.id FROM credit_lots l JOIN credit_lots_recomputed r USING (id)
    WHERE (l.remaining_nanos, l.used_nanos, l.last_burnt)
          IS DISTINCT FROM (r.remaining_nanos, r.used_nanos, r.last_burnt)
    ORDER BY name
""")

REBUILD_LOTS = text("""
    UPDATE credit_lots l
    SET remaining_nanos = r.remaining_nanos, used_nanos = r.used_nanos, last_burnt = r.last_burnt
    FROM credit_lots_recomputed r WHERE r.id = l.id
""")
