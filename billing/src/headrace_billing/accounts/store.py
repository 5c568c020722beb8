"""Organisations, projects and keys in Postgres; changing.py has what changes them. Each change writes its record into the outbox as well."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.accounts.entitlement import entitlements
from headrace_billing.accounts.key import Key, Organization, Project
from headrace_billing.errors import NotFound
from headrace_contracts import channels
from headrace_contracts.access import KeyScope, KeyStatus, Limit, Priority
from headrace_contracts.usage import Disposition

# Gateways hear of an organisation by its projects' records, all written in one transaction.
PROJECTS_MAX = 1000


async def add_organization(session: AsyncSession, organization: Organization) -> None:
    await session.execute(
        INSERT_ORGANIZATION,
        {
            "id": organization.id,
            "name": organization.name,
            "models": organization.models,
            "limits": limits_json(organization.limits),
            "weight": organization.weight,
            "created_at": organization.created_at,
        },
    )


async def add_project(session: AsyncSession, project: Project) -> str:
    """The Valkey key of its record, to push once the transaction stands. Its wallet must be there."""
    await session.execute(
        INSERT_PROJECT,
        {
            "id": project.id,
            "org": project.org,
            "name": project.name,
            "currency": project.currency,
            "disposition": project.disposition,
            "wallet": project.wallet,
            "status": project.status,
            "models": project.models,
            "allowed_cidrs": project.allowed_cidrs,
            "limits": limits_json(project.limits),
            "fallback_models": project.fallback_models,
            "created_at": project.created_at,
        },
    )
    return await write_project(session, project)


async def write_project(session: AsyncSession, project: Project) -> str:
    """Puts the project's record into the outbox; its Valkey key."""
    return (await _write_projects(session, project.org, [project]))[0]


async def write_projects(session: AsyncSession, org: str) -> list[str]:
    """Puts the records of all projects of an organisation into the outbox; their Valkey keys."""
    # What the records say of the organisation must not change before all of them are written.
    await session.execute(LOCK_ORGANIZATION, {"id": org})
    found = await projects(session, org=org, after="", limit=PROJECTS_MAX + 1)
    assert len(found) <= PROJECTS_MAX, org
    return await _write_projects(session, org, found)


async def _write_projects(session: AsyncSession, org_id: str, found: Sequence[Project]) -> list[str]:
    org = await organization_kept(session, org_id)
    own = set((await session.execute(SELECT_OWN_PRICES, {"org": org_id})).scalars())
    plans = await entitlements(session, org_id)
    places = []
    for project in found:
        price_list = channels.price_list(project.currency, org_id) if project.currency in own else None
        places.append(channels.project(project.id))
        record = project.record(org, price_list=price_list, plan=plans.of(project.id))
        await outbox.write(session, places[-1], record)
    return places


async def add_key(session: AsyncSession, key: Key) -> str:
    """The Valkey key of its record, to push once the transaction stands."""
    await session.execute(
        INSERT_KEY,
        {
            "id": key.id,
            "project": key.project,
            "name": key.name,
            "secret_sha256": key.secret_sha256,
            "prefix": key.prefix,
            "status": key.status,
            "models": key.models,
            "scopes": key.scopes,
            "allowed_cidrs": key.allowed_cidrs,
            "service_account": key.service_account,
            "limits": limits_json(key.limits),
            "priority": key.priority,
            "fallback_models": key.fallback_models,
            "expires_at": key.expires_at,
            "created_at": key.created_at,
        },
    )
    place = channels.key(key.secret_sha256)
    await outbox.write(session, place, key.record())
    return place


async def revoke_key(session: AsyncSession, key_id: str, *, at: datetime) -> tuple[Key, list[str]]:
    """The revoked key and the Valkey keys of its records. A key that is revoked already stays as it is."""
    row = (await session.execute(REVOKE_KEY, {"id": key_id, "at": at})).mappings().first()
    if row is None:
        raise NotFound("key", key_id)
    key = _key(row)
    return key, await write_key(session, key)


async def write_key(session: AsyncSession, key: Key) -> list[str]:
    """Puts the key's records into the outbox: its secret's, and its retired secret's; their Valkey keys."""
    places = [channels.key(key.secret_sha256)]
    await outbox.write(session, places[0], key.record())
    retired = (await session.execute(SELECT_RETIRED, {"key": key.id})).first()
    if retired is not None:
        places.append(channels.key(retired.secret_sha256))
        await outbox.write(session, places[1], key.record_of_retired(retired.expires_at))
    return places


async def key(session: AsyncSession, key_id: str) -> Key:
    row = (await session.execute(SELECT_KEY, {"id": key_id})).mappings().first()
    if row is None:
        raise NotFound("key", key_id)
    return _key(row)


async def organization(session: AsyncSession, organization_id: str) -> Organization:
    row = (await session.execute(SELECT_ORGANIZATION, {"id": organization_id})).mappings().first()
    if row is None:
        raise NotFound("organization", organization_id)
    return _organization(row)


async def organization_kept(session: AsyncSession, organization_id: str) -> Organization:
    """The same, unchanged until the transaction ends: for writing what holds for all of its projects into one."""
    await session.execute(SHARE_ORGANIZATION, {"id": organization_id})
    return await organization(session, organization_id)


async def project(session: AsyncSession, project_id: str) -> Project:
    row = (await session.execute(SELECT_PROJECT, {"id": project_id})).mappings().first()
    if row is None:
        raise NotFound("project", project_id)
    return _project(row)


async def organizations(session: AsyncSession, *, after: str, limit: int) -> Sequence[Organization]:
    rows = await session.execute(SELECT_ORGANIZATIONS, {"after": after, "limit": limit})
    return [_organization(row) for row in rows.mappings()]


async def projects(session: AsyncSession, *, org: str | None, after: str, limit: int) -> Sequence[Project]:
    rows = await session.execute(SELECT_PROJECTS, {"org": org, "after": after, "limit": limit})
    return [_project(row) for row in rows.mappings()]


async def keys(
    session: AsyncSession, *, project: str | None, service_account: str | None, after: str, limit: int
) -> Sequence[Key]:
    rows = await session.execute(
        SELECT_KEYS,
        {"project": project, "service_account": service_account, "after": after, "limit": limit},
    )
    return [_key(row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True)
class KeyOwner:
    key: str
    project: str
    org: str
    wallet: str
    currency: str
    scopes: Sequence[str] | None
    key_cidrs: Sequence[str] | None
    project_cidrs: Sequence[str] | None


async def owner_of_hash(session: AsyncSession, key_sha256: str, *, at: datetime) -> KeyOwner | None:
    """Whose secret has this hash; null for one that is unknown, revoked or expired."""
    row = (await session.execute(SELECT_OWNER, {"hash": key_sha256, "at": at})).mappings().first()
    return None if row is None else KeyOwner(**row)


def _organization(row: RowMapping) -> Organization:
    return Organization(**{**row, "limits": msgspec.convert(row["limits"], list[Limit])})


def _project(row: RowMapping) -> Project:
    return Project(
        **{
            **row,
            "disposition": Disposition(row["disposition"]),
            "status": KeyStatus(row["status"]),
            "limits": msgspec.convert(row["limits"], list[Limit]),
        }
    )


def _key(row: RowMapping) -> Key:
    return Key(
        **{
            **row,
            "status": KeyStatus(row["status"]),
            "priority": Priority(row["priority"]),
            "limits": msgspec.convert(row["limits"], list[Limit]),
            "scopes": None if row["scopes"] is None else [KeyScope(scope) for scope in row["scopes"]],
        }
    )


def limits_json(limits: Sequence[Limit]) -> str:
    return json.dumps(msgspec.to_builtins(list(limits)))


INSERT_ORGANIZATION = text("""
    INSERT INTO organizations (id, name, models, limits, weight, created_at)
    VALUES (:id, :name, CAST(:models AS text[]), CAST(:limits AS jsonb), :weight, :created_at)
""")

INSERT_PROJECT = text("""
    INSERT INTO projects
      (id, org, name, currency, disposition, wallet, status, models, allowed_cidrs, limits, fallback_models, created_at)
    VALUES (:id, :org, :name, :currency, :disposition, :wallet, :status, CAST(:models AS text[]),
            CAST(:allowed_cidrs AS text[]), CAST(:limits AS jsonb), CAST(:fallback_models AS text[]), :created_at)
""")

INSERT_KEY = text("""
    INSERT INTO api_keys
      (id, project, name, secret_sha256, prefix, status, models, scopes, allowed_cidrs, service_account, limits,
       priority, fallback_models, expires_at, created_at)
    VALUES (:id, :project, :name, :secret_sha256, :prefix, :status, CAST(:models AS text[]),
            CAST(:scopes AS text[]), CAST(:allowed_cidrs AS text[]), :service_account, CAST(:limits AS jsonb),
            :priority, CAST(:fallback_models AS text[]), :expires_at, :created_at)
""")

REVOKE_KEY = text("""
    UPDATE api_keys
    SET status = 'revoked', revoked_at = coalesce(revoked_at, :at), version = version + CAST(status = 'active' AS int)
    WHERE id = :id
    RETURNING id, project, name, secret_sha256, prefix, status, models, scopes,
           allowed_cidrs, service_account, limits, priority, fallback_models, expires_at, created_at, revoked_at, version
""")

SELECT_ORGANIZATION = text(
    "SELECT id, name, created_at, models, limits, weight, paused, version FROM organizations WHERE id = :id"
)
LOCK_ORGANIZATION = text("SELECT id FROM organizations WHERE id = :id FOR NO KEY UPDATE")
SHARE_ORGANIZATION = text("SELECT id FROM organizations WHERE id = :id FOR SHARE")
SELECT_OWN_PRICES = text("SELECT currency FROM price_cards WHERE org = :org")
SELECT_PROJECT = text("""
    SELECT id, org, name, currency, disposition, wallet, status, models, allowed_cidrs, limits, fallback_models,
           overage, created_at, version
    FROM projects WHERE id = :id
""")

SELECT_ORGANIZATIONS = text("""
    SELECT id, name, created_at, models, limits, weight, paused, version FROM organizations
    WHERE id > :after ORDER BY id LIMIT :limit
""")

SELECT_PROJECTS = text("""
    SELECT id, org, name, currency, disposition, wallet, status, models, allowed_cidrs, limits, fallback_models,
           overage, created_at, version FROM projects
    WHERE id > :after AND (CAST(:org AS text) IS NULL OR org = :org) ORDER BY id LIMIT :limit
""")

SELECT_KEYS = text("""
    SELECT id, project, name, secret_sha256, prefix, status, models, scopes,
           allowed_cidrs, service_account, limits, priority, fallback_models, expires_at, created_at, revoked_at, version FROM api_keys
    WHERE id > :after AND (CAST(:project AS text) IS NULL OR project = :project)
      AND (CAST(:service_account AS text) IS NULL OR service_account = :service_account)
    ORDER BY id LIMIT :limit
""")

SELECT_OWNER = text("""
    SELECT k.id AS key, p.id AS project, p.org, p.wallet, p.currency, k.scopes,
           k.allowed_cidrs AS key_cidrs, p.allowed_cidrs AS project_cidrs
    FROM api_keys k JOIN projects p ON p.id = k.project
      LEFT JOIN retired_secrets r ON r.key = k.id AND r.expires_at > :at
    WHERE (k.secret_sha256 = :hash OR r.secret_sha256 = :hash) AND k.status = 'active' AND p.status = 'active'
      AND (k.expires_at IS NULL OR k.expires_at > :at)
""")

SELECT_KEY = text("""
    SELECT id, project, name, secret_sha256, prefix, status, models, scopes,
           allowed_cidrs, service_account, limits, priority, fallback_models, expires_at, created_at, revoked_at, version FROM api_keys WHERE id = :id
""")

SELECT_RETIRED = text("SELECT secret_sha256, expires_at FROM retired_secrets WHERE key = :key")
