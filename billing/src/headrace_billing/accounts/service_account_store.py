"""Service accounts in Postgres, and the keys that they own."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store
from headrace_billing.accounts.service_account import (
    KEYS_MAX,
    ServiceAccount,
    ServiceAccountDisabled,
    ServiceAccountFull,
    ServiceAccountStatus,
)
from headrace_billing.errors import NotFound


async def add(session: AsyncSession, account: ServiceAccount) -> None:
    await session.execute(
        INSERT,
        {
            "id": account.id,
            "project": account.project,
            "name": account.name,
            "status": account.status,
            "created_at": account.created_at,
        },
    )


async def read(session: AsyncSession, account_id: str) -> ServiceAccount:
    row = (await session.execute(SELECT, {"id": account_id})).mappings().first()
    if row is None:
        raise NotFound("service account", account_id)
    return _account(row)


async def page(
    session: AsyncSession, *, project: str | None, after: str, limit: int
) -> Sequence[ServiceAccount]:
    rows = await session.execute(SELECT_PAGE, {"project": project, "after": after, "limit": limit})
    return [_account(row) for row in rows.mappings()]


async def take_on_key(session: AsyncSession, account_id: str, *, project: str) -> None:
    """Makes sure that the account may own one more key of this project, until the transaction ends."""
    await session.execute(LOCK, {"id": account_id})
    account = await read(session, account_id)
    if account.project != project:
        raise NotFound("service account", account_id)
    if account.status is not ServiceAccountStatus.ACTIVE:
        raise ServiceAccountDisabled(account_id)
    owned = (await session.execute(SELECT_ACTIVE_KEYS, {"id": account_id})).all()
    if len(owned) >= KEYS_MAX:
        raise ServiceAccountFull(account_id)


async def disable(session: AsyncSession, account_id: str, *, at: datetime) -> list[str]:
    """Disables it and revokes its keys; the Valkey keys of their records. Again, it gives those records again."""
    await session.execute(LOCK, {"id": account_id})
    await read(session, account_id)
    await session.execute(DISABLE, {"id": account_id, "at": at})
    places = []
    for row in (await session.execute(SELECT_KEYS, {"id": account_id})).all():
        _, records = await store.revoke_key(session, row.id, at=at)
        places += records
    return places


def _account(row: RowMapping) -> ServiceAccount:
    return ServiceAccount(**{**row, "status": ServiceAccountStatus(row["status"])})


INSERT = text("""
    INSERT INTO service_accounts (id, project, name, status, created_at)
    VALUES (:id, :project, :name, :status, :created_at)
""")

SELECT = text("""
    SELECT id, project, name, status, created_at, disabled_at FROM service_accounts WHERE id = :id
""")

SELECT_PAGE = text("""
    SELECT id, project, name, status, created_at, disabled_at FROM service_accounts
    WHERE id > :after AND (CAST(:project AS text) IS NULL OR project = :project) ORDER BY id LIMIT :limit
""")

LOCK = text("SELECT id FROM service_accounts WHERE id = :id FOR UPDATE")

DISABLE = text("""
    UPDATE service_accounts SET status = 'disabled', disabled_at = coalesce(disabled_at, :at) WHERE id = :id
""")

SELECT_ACTIVE_KEYS = text("SELECT id FROM api_keys WHERE service_account = :id AND status = 'active'")

# Those that the account's end ends, also when it is asked for again.
SELECT_KEYS = text("""
    SELECT k.id FROM api_keys k JOIN service_accounts a ON a.id = k.service_account
    WHERE a.id = :id AND (k.status = 'active' OR k.revoked_at >= a.disabled_at) ORDER BY k.id
""")
