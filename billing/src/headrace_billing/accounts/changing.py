"""Changes of what stands: names, limits, what keys may do and from where, and secrets, each by the version that the caller saw.

Every change writes its records into the outbox of the same transaction, and gives their Valkey keys, to be pushed
once it stands: it then holds from the next request on.
"""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox, store
from headrace_billing.accounts.key import Key, Organization, Project
from headrace_billing.errors import BillingError
from headrace_contracts import channels
from headrace_contracts.access import KeyStatus


class VersionConflict(BillingError):
    """Somebody else changed it first."""

    code = "version_conflict"

    def __init__(self, kind: str, version: int) -> None:
        super().__init__(
            f"The {kind} is no longer at the version of If-Match but at {version}: read it again."
        )


class KeyNotActive(BillingError):
    """A revoked key stays revoked."""

    code = "key_not_active"

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is revoked: its secret can't be rotated.")


async def change_organization(session: AsyncSession, changed: Organization) -> list[str]:
    """`changed` has the version that the caller saw."""
    await _update(
        session,
        UPDATE_ORGANIZATION,
        "organization",
        {
            "id": changed.id,
            "version": changed.version,
            "name": changed.name,
            "models": changed.models,
            "limits": store.limits_json(changed.limits),
            "weight": changed.weight,
        },
    )
    return await store.write_projects(session, changed.id)


async def change_project(session: AsyncSession, changed: Project) -> list[str]:
    """`changed` has the version that the caller saw."""
    await _update(
        session,
        UPDATE_PROJECT,
        "project",
        {
            "id": changed.id,
            "version": changed.version,
            "name": changed.name,
            "models": changed.models,
            "allowed_cidrs": changed.allowed_cidrs,
            "limits": store.limits_json(changed.limits),
            "fallback_models": changed.fallback_models,
        },
    )
    return [await store.write_project(session, changed)]


async def change_key(session: AsyncSession, changed: Key) -> list[str]:
    """`changed` has the version that the caller saw."""
    await _update(
        session,
        UPDATE_KEY,
        "key",
        {
            "id": changed.id,
            "version": changed.version,
            "name": changed.name,
            "models": changed.models,
            "scopes": changed.scopes,
            "allowed_cidrs": changed.allowed_cidrs,
            "limits": store.limits_json(changed.limits),
            "priority": changed.priority,
            "fallback_models": changed.fallback_models,
            "expires_at": changed.expires_at,
        },
    )
    return await store.write_key(session, await store.key(session, changed.id))


async def rotate_key(
    session: AsyncSession, key_id: str, *, secret_sha256: str, prefix: str, old_expires_at: datetime
) -> tuple[Key, list[str]]:
    """Gives the key another secret; the one so far ends at `old_expires_at`, and one retired before it now."""
    locked = (await session.execute(LOCK_KEY, {"id": key_id})).first()
    before = await store.key(session, key_id)
    assert locked is not None
    if before.status is not KeyStatus.ACTIVE:
        raise KeyNotActive(key_id)
    places = []
    ended = (await session.execute(store.SELECT_RETIRED, {"key": key_id})).first()
    if ended is not None:
        places.append(channels.key(ended.secret_sha256))
        await outbox.write(session, places[0], before.record_of_retired(before.created_at), live=False)
    await session.execute(
        RETIRE, {"key": key_id, "secret_sha256": before.secret_sha256, "expires_at": old_expires_at}
    )
    await session.execute(SET_SECRET, {"id": key_id, "secret_sha256": secret_sha256, "prefix": prefix})
    key = await store.key(session, key_id)
    return key, places + await store.write_key(session, key)


async def _update(session: AsyncSession, statement: object, kind: str, values: dict[str, object]) -> None:
    row = (await session.execute(statement, values)).first()  # type: ignore[call-overload]
    if row is None:
        standing = (await session.execute(VERSIONS[kind], {"id": values["id"]})).scalar_one()
        raise VersionConflict(kind, standing)


UPDATE_ORGANIZATION = text("""
    UPDATE organizations
    SET name = :name, models = CAST(:models AS text[]), limits = CAST(:limits AS jsonb), weight = :weight, version = version + 1
    WHERE id = :id AND version = :version RETURNING id
""")

UPDATE_PROJECT = text("""
    UPDATE projects
    SET name = :name, models = CAST(:models AS text[]), allowed_cidrs = CAST(:allowed_cidrs AS text[]),
        limits = CAST(:limits AS jsonb), fallback_models = CAST(:fallback_models AS text[]), version = version + 1
    WHERE id = :id AND version = :version RETURNING id
""")

UPDATE_KEY = text("""
    UPDATE api_keys
    SET name = :name, models = CAST(:models AS text[]), scopes = CAST(:scopes AS text[]),
        allowed_cidrs = CAST(:allowed_cidrs AS text[]), limits = CAST(:limits AS jsonb),
        priority = :priority, fallback_models = CAST(:fallback_models AS text[]), expires_at = :expires_at,
        version = version + 1
    WHERE id = :id AND version = :version RETURNING id
""")

LOCK_KEY = text("SELECT id FROM api_keys WHERE id = :id FOR UPDATE")

RETIRE = text("""
    INSERT INTO retired_secrets (key, secret_sha256, expires_at) VALUES (:key, :secret_sha256, :expires_at)
    ON CONFLICT (key) DO UPDATE SET secret_sha256 = excluded.secret_sha256, expires_at = excluded.expires_at
""")

SET_SECRET = text("""
    UPDATE api_keys SET secret_sha256 = :secret_sha256, prefix = :prefix, version = version + 1 WHERE id = :id
""")

VERSIONS = {
    "organization": text("SELECT version FROM organizations WHERE id = :id"),
    "project": text("SELECT version FROM projects WHERE id = :id"),
    "key": text("SELECT version FROM api_keys WHERE id = :id"),
}
