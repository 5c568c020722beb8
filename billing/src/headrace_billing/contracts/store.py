"""Contracts in Postgres: with their versions and projects, locked for whoever changes them or their periods."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.contracts.bodies import TermsBody
from headrace_billing.contracts.contract import Contract, ProjectCommitted, Version
from headrace_billing.contracts.dues import Charged
from headrace_billing.contracts.term import Cadence, Term
from headrace_billing.errors import NotFound


class VersionDocument(TypedDict):
    version: int
    effective_on: str
    made_at: str
    reason: str
    terms: Mapping[str, Any]
    """As they were written."""


async def add(session: AsyncSession, contract: Contract) -> None:
    await session.execute(
        INSERT,
        {
            "id": contract.id,
            "org": contract.organization,
            "name": contract.name,
            "currency": contract.currency,
            "starts_on": contract.term.starts_on,
            "months": contract.term.months,
            "cadence": contract.term.cadence,
            "wallet": contract.wallet,
            "signed_at": contract.signed_at,
        },
    )
    await session.execute(
        INSERT_PROJECTS, [{"contract": contract.id, "project": project} for project in contract.projects]
    )


async def add_version(
    session: AsyncSession,
    contract: str,
    *,
    number: int,
    effective_on: date,
    terms: dict[str, Any],
    reason: str,
    at: datetime,
) -> None:
    await session.execute(
        INSERT_VERSION,
        {
            "contract": contract,
            "version": number,
            "effective_on": effective_on,
            "terms": json.dumps(terms),
            "reason": reason,
            "at": at,
        },
    )


async def shorten(session: AsyncSession, contract: str, term: Term) -> None:
    await session.execute(UPDATE_MONTHS, {"id": contract, "months": term.months})


async def lock(session: AsyncSession, contract: str) -> Contract:
    """Nobody else changes it or opens its periods until the transaction ends. Raises `NotFound`."""
    if (await session.execute(LOCK, {"id": contract})).first() is None:
        raise NotFound("contract", contract)
    return await read(session, contract)


async def read(session: AsyncSession, contract: str) -> Contract:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT, {"id": contract})).first()
    if row is None:
        raise NotFound("contract", contract)
    return (await _contracts(session, [row]))[0]


async def page(session: AsyncSession, *, org: str | None, after: str, limit: int) -> list[Contract]:
    rows = await session.execute(SELECT_PAGE, {"org": org, "after": after, "limit": limit})
    return await _contracts(session, rows.all())


async def documents(session: AsyncSession, contract: str) -> list[VersionDocument]:
    """The versions as they were written, newest last."""
    rows = await session.execute(SELECT_VERSIONS, {"ids": [contract]})
    return [
        {
            "version": row.version,
            "effective_on": row.effective_on.isoformat(),
            "made_at": row.made_at.isoformat(),
            "reason": row.reason,
            "terms": row.terms,
        }
        for row in rows
    ]


async def check_free(session: AsyncSession, projects: Sequence[str], term: Term) -> None:
    """Raises `ProjectCommitted` for a project that another contract has at some time of the term."""
    await session.execute(LOCK_PROJECTS, {"projects": sorted(projects)})
    row = (
        await session.execute(
            SELECT_COMMITTED,
            {"projects": list(projects), "starts_on": term.starts_on, "ends_on": term.ends_at.date()},
        )
    ).first()
    if row is not None:
        raise ProjectCommitted(row.project, row.contract)


async def due_to_turn(session: AsyncSession, *, now: datetime, limit: int) -> list[str]:
    """Contracts of which a period is to be opened or closed, those that wait longest first."""
    rows = await session.execute(SELECT_DUE_TO_TURN, {"now": now, "limit": limit})
    return [row.id for row in rows]


async def due_to_assess(session: AsyncSession, *, now: datetime, limit: int) -> list[str]:
    rows = await session.execute(SELECT_DUE_TO_ASSESS, {"now": now, "limit": limit})
    return [row.id for row in rows]


@dataclass(frozen=True, slots=True)
class Looks:
    """When a contract is to be looked at next: what it is due, and its service levels, which takes longer."""

    dues_at: datetime
    levels_at: datetime


async def looks(session: AsyncSession, contract: str) -> Looks:
    row = (await session.execute(SELECT_LOOKS, {"id": contract})).one()
    return Looks(row.assess_at, row.levels_at)


async def look_again(session: AsyncSession, contract: str, at: Looks) -> None:
    await session.execute(UPDATE_LOOKS, {"id": contract, "dues_at": at.dues_at, "levels_at": at.levels_at})


async def close(session: AsyncSession, contract: str, *, at: datetime) -> None:
    await session.execute(CLOSE, {"id": contract, "at": at})


async def charged(session: AsyncSession, contract: str) -> dict[str, Charged]:
    """By key, all that was charged."""
    rows = await session.execute(SELECT_CHARGED, {"contract": contract})
    return {row.key: Charged(int(row.quantity), int(row.nanos), row.times) for row in rows}


async def add_due(
    session: AsyncSession, contract: str, key: str, number: int, *, quantity: int, nanos: int, charge: str
) -> None:
    await session.execute(
        INSERT_DUE,
        {
            "contract": contract,
            "key": key,
            "number": number,
            "quantity": quantity,
            "nanos": nanos,
            "charge": charge,
        },
    )


async def _contracts(session: AsyncSession, rows: Sequence[Row[Any]]) -> list[Contract]:
    ids = [row.id for row in rows]
    versions: dict[str, list[Version]] = {contract: [] for contract in ids}
    for row in await session.execute(SELECT_VERSIONS, {"ids": ids}):
        terms = TermsBody.model_validate(row.terms).terms()
        versions[row.contract].append(Version(row.version, row.effective_on, terms))
    projects: dict[str, list[str]] = {contract: [] for contract in ids}
    for row in await session.execute(SELECT_PROJECTS, {"ids": ids}):
        projects[row.contract].append(row.project)
    return [
        Contract(
            id=row.id,
            organization=row.org,
            name=row.name,
            currency=row.currency,
            term=Term(row.starts_on, row.months, Cadence(row.cadence)),
            wallet=row.wallet,
            signed_at=row.signed_at,
            closed_at=row.closed_at,
            versions=versions[row.id],
            projects=projects[row.id],
        )
        for row in rows
    ]


INSERT = text("""
    INSERT INTO contracts (id, org, name, currency, starts_on, months, cadence, wallet, signed_at, assess_at, levels_at)
    VALUES (:id, :org, :name, :currency, :starts_on, :months, :cadence, :wallet, :signed_at, :signed_at, :signed_at)
""")
INSERT_PROJECTS = text("INSERT INTO contract_projects (contract, project) VALUES (:contract, :project)")
INSERT_VERSION = text("""
    INSERT INTO contract_versions (contract, version, effective_on, terms, reason, made_at)
    VALUES (:contract, :version, :effective_on, CAST(:terms AS jsonb), :reason, :at)
""")
UPDATE_MONTHS = text("UPDATE contracts SET months = :months WHERE id = :id")
CLOSE = text("UPDATE contracts SET closed_at = :at WHERE id = :id AND closed_at IS NULL")
SELECT_CHARGED = text("""
    SELECT key, sum(quantity) AS quantity, sum(nanos) AS nanos, count(*) AS times
    FROM contract_dues WHERE contract = :contract GROUP BY key
""")
INSERT_DUE = text("""
    INSERT INTO contract_dues (contract, key, number, quantity, nanos, charge)
    VALUES (:contract, :key, :number, :quantity, :nanos, :charge)
""")
SELECT_LOOKS = text("SELECT assess_at, levels_at FROM contracts WHERE id = :id")
UPDATE_LOOKS = text("UPDATE contracts SET assess_at = :dues_at, levels_at = :levels_at WHERE id = :id")

COLUMNS = "id, org, name, currency, starts_on, months, cadence, wallet, signed_at, closed_at"
LOCK = text("SELECT id FROM contracts WHERE id = :id FOR UPDATE")
SELECT = text(f"SELECT {COLUMNS} FROM contracts WHERE id = :id")  # noqa: S608 - columns of this file
SELECT_PAGE = text(f"""
    SELECT {COLUMNS} FROM contracts WHERE id > :after AND (CAST(:org AS text) IS NULL OR org = :org)
    ORDER BY id LIMIT :limit
""")  # noqa: S608 - columns of this file
SELECT_VERSIONS = text("""
    SELECT contract, version, effective_on, terms, reason, made_at FROM contract_versions
    WHERE contract = ANY(:ids) ORDER BY contract, version
""")
SELECT_PROJECTS = text("""
    SELECT contract, project FROM contract_projects WHERE contract = ANY(:ids) ORDER BY contract, project
""")

LOCK_PROJECTS = text("SELECT id FROM projects WHERE id = ANY(:projects) ORDER BY id FOR UPDATE")
SELECT_COMMITTED = text("""
    SELECT p.project, c.id AS contract FROM contract_projects p JOIN contracts c ON c.id = p.contract
    WHERE p.project = ANY(:projects) AND c.starts_on < :ends_on
      AND c.starts_on + c.months * interval '1 month' > CAST(:starts_on AS date)
    LIMIT 1
""")

# A period is opened when it begins, and the one before is closed with that; the last one when the term ends.
SELECT_DUE_TO_TURN = text("""
    SELECT c.id FROM contracts c
    CROSS JOIN LATERAL (
      SELECT coalesce(max(p.ends_at), c.starts_on::timestamp AT TIME ZONE 'UTC') AS next_at
      FROM contract_periods p WHERE p.contract = c.id
    ) AS n
    WHERE c.closed_at IS NULL AND n.next_at <= :now
    ORDER BY n.next_at, c.id LIMIT :limit
""")

SELECT_DUE_TO_ASSESS = text("""
    SELECT id FROM contracts WHERE assess_at <= :now AND starts_on <= CAST(:now AS timestamptz)
    ORDER BY assess_at, id LIMIT :limit
""")
