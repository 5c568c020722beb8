"""Wallets and their credit lots in Postgres: locked, read, granted, burnt and given back.

Everything that changes a wallet holds its row's lock until it commits, so what was read is what is posted against.
The database raises a wallet's `version` with every posting that touches it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError, NotFound
from headrace_billing.ledger.lots import PRIORITY_DEFAULT, Holdings, Lot, burn, burn_order
from headrace_billing.ledger.transaction import AccountKind, Posting
from headrace_billing.money import major


class InsufficientBalance(BillingError):
    """The wallet can't pay; topping up helps."""

    code = "insufficient_balance"

    def __init__(self, *, wallet: str, needed_nanos: int, balance_nanos: int) -> None:
        super().__init__(f"{wallet} has {major(balance_nanos)}, and {major(needed_nanos)} is needed.")


class CurrencyMismatch(BillingError):
    """A wallet has one currency, and nothing converts silently."""

    code = "currency_mismatch"

    def __init__(self, wallet: str, currency: str) -> None:
        super().__init__(f"{wallet} is kept in {currency}.")


async def open_wallet(session: AsyncSession, *, wallet: str, org: str, currency: str, at: datetime) -> None:
    await session.execute(INSERT_WALLET, {"id": wallet, "org": org, "currency": currency, "at": at})


async def lock(session: AsyncSession, wallets: Iterable[str]) -> dict[str, Holdings]:
    """Locks the wallets until the transaction ends and reads what they hold. Raises `NotFound`.

    Takes all that the transaction will touch at once: one order for everybody is what keeps deadlocks away.
    """
    ids = sorted(set(wallets))
    rows = (await session.execute(LOCK_WALLETS, {"ids": ids})).all()
    currencies: dict[str, str] = {row.id: row.currency for row in rows}
    for wallet in ids:
        if wallet not in currencies:
            raise NotFound("wallet", wallet)
    held: dict[str, list[Lot]] = {wallet: [] for wallet in ids}
    for row in (await session.execute(SELECT_LOTS, {"ids": ids})).mappings():
        held[row["wallet"]].append(_lot(row))
    overdrafts = {
        row.owner: int(row.amount_nanos) for row in await session.execute(SELECT_OVERDRAFTS, {"ids": ids})
    }
    return {
        wallet: Holdings(wallet, currencies[wallet], tuple(held[wallet]), overdrafts.get(wallet, 0))
        for wallet in ids
    }


async def take(
    session: AsyncSession, wallet: str, amount_nanos: int, *, project: str | None
) -> tuple[Posting, ...]:
    """Locks the wallet and gives the debits by lot for exactly `amount_nanos`; the caller posts them.

    Raises `InsufficientBalance` when lots and balance don't reach: what is bought ahead never makes an overdraft.
    """
    holdings = (await lock(session, [wallet]))[wallet]
    postings, short = burn(holdings, amount_nanos, project=project)
    if short or holdings.balance_nanos < amount_nanos:
        raise InsufficientBalance(
            wallet=wallet, needed_nanos=amount_nanos, balance_nanos=holdings.balance_nanos
        )
    return postings


async def open_lot(
    session: AsyncSession,
    *,
    lot: str,
    wallet: str,
    kind: AccountKind,
    currency: str,
    granted_nanos: int,
    at: datetime,
    expires_at: datetime | None = None,
    scope: str | None = None,
    scope_model: str | None = None,
    priority: int = PRIORITY_DEFAULT,
    source: str = "manual",
    reason: str = "",
) -> None:
    """An empty lot; the posting that credits it fills it."""
    await session.execute(
        INSERT_LOT,
        {
            "id": lot,
            "wallet": wallet,
            "kind": kind,
            "currency": currency,
            "granted_nanos": granted_nanos,
            "opened_at": at,
            "expires_at": expires_at,
            "scope": scope,
            "scope_model": scope_model,
            "priority": priority,
            "source": source,
            "reason": reason,
        },
    )


@dataclass(frozen=True, slots=True)
class Owned:
    org: str
    currency: str


async def require(
    session: AsyncSession, wallet: str, *, org: str | None = None, currency: str | None = None
) -> Owned:
    """Whose it is. Raises `NotFound` or `CurrencyMismatch` unless the wallet is there, the organisation's, in that currency."""
    row = (await session.execute(SELECT_WALLET, {"id": wallet})).first()
    if row is None or org not in (None, row.org):
        raise NotFound("wallet", wallet)
    if currency not in (None, row.currency):
        raise CurrencyMismatch(wallet, row.currency)
    return Owned(row.org, row.currency)


async def touch(session: AsyncSession, wallet: str) -> None:
    """What may be spent from it can have changed without a posting: gateways are told anew."""
    await session.execute(TOUCH_WALLET, {"id": wallet})


async def lots(session: AsyncSession, wallet: str) -> list[Lot]:
    """Those with something left, in the order in which they burn."""
    found = [_lot(row) for row in (await session.execute(SELECT_LOTS, {"ids": [wallet]})).mappings()]
    return burn_order([lot for lot in found if lot.remaining_nanos])


@dataclass(frozen=True, slots=True)
class WalletBalance:
    wallet: str
    org: str
    currency: str
    balance_nanos: int
    """Σ of its lots less its overdraft. What running requests hold is Valkey's business."""
    spendable_nanos: int
    """The same without credit that some request of the wallet's projects might not burn.

    Gateways know one balance a wallet. Credit for one model, or for one of several projects, therefore admits no
    request by itself; it pays first for what the rest has admitted.
    """
    version: int


async def balances(session: AsyncSession, wallets: Iterable[str]) -> list[WalletBalance]:
    """Balance and version of one and the same moment."""
    rows = await session.execute(SELECT_BALANCES, {"ids": sorted(set(wallets))})
    return [
        WalletBalance(
            row.id, row.org, row.currency, int(row.balance_nanos), int(row.spendable_nanos), int(row.version)
        )
        for row in rows
    ]


def _lot(fields: RowMapping) -> Lot:
    return Lot(
        id=fields["id"],
        wallet=fields["wallet"],
        kind=AccountKind(fields["kind"]),
        currency=fields["currency"],
        scope=fields["scope"],
        priority=fields["priority"],
        expires_at=fields["expires_at"],
        opened_at=fields["opened_at"],
        remaining_nanos=int(fields["remaining_nanos"]),
        used_nanos=int(fields["used_nanos"]),
        last_burnt=int(fields["last_burnt"]),
        scope_model=fields["scope_model"],
    )


INSERT_WALLET = text("INSERT INTO wallets (id, org, currency, created_at) VALUES (:id, :org, :currency, :at)")

LOCK_WALLETS = text("SELECT id, currency FROM wallets WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")

SELECT_WALLET = text("SELECT org, currency FROM wallets WHERE id = :id")

# A lot that is used up and that no usage could go back to has nothing to say.
SELECT_LOTS = text("""
    SELECT id, wallet, kind, currency, scope, priority, expires_at, opened_at,
           remaining_nanos, used_nanos, last_burnt, scope_model
    FROM credit_lots WHERE wallet = ANY(:ids) AND (remaining_nanos > 0 OR used_nanos > 0)
""")

SELECT_OVERDRAFTS = text("""
    SELECT owner, amount_nanos FROM ledger_balances WHERE kind = 'overdraft' AND owner = ANY(:ids)
""")

INSERT_LOT = text("""
    INSERT INTO credit_lots (id, wallet, kind, currency, granted_nanos, opened_at, expires_at, scope, scope_model, priority,
                             source, reason)
    VALUES (:id, :wallet, :kind, :currency, :granted_nanos, :opened_at, :expires_at, :scope, :scope_model, :priority,
            :source, :reason)
""")

SELECT_BALANCES = text("""
    SELECT w.id, w.org, w.currency, w.version, l.remaining_nanos - o.overdraft_nanos AS balance_nanos,
           l.spendable_nanos - o.overdraft_nanos AS spendable_nanos
    FROM wallets w
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(l.remaining_nanos), 0) AS remaining_nanos,
             coalesce(sum(l.remaining_nanos) FILTER (
               WHERE l.scope_model IS NULL AND (l.scope IS NULL OR NOT EXISTS (
                 SELECT FROM projects p WHERE p.wallet = w.id AND p.status = 'active' AND p.id <> l.scope))), 0)
               AS spendable_nanos
      FROM credit_lots l WHERE l.wallet = w.id) AS l
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(b.amount_nanos), 0) AS overdraft_nanos FROM ledger_balances b
      WHERE b.kind = 'overdraft' AND b.owner = w.id AND b.currency = w.currency) AS o
    WHERE w.id = ANY(:ids) ORDER BY w.id
""")

TOUCH_WALLET = text("UPDATE wallets SET version = version + 1 WHERE id = :id")
