"""Outcome types and tasks in Postgres. Opening and closing a task also writes what gateways must know of it."""

# ruff: noqa: S608 - what is put into the SQL here are column lists of this file

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import outbox
from headrace_billing.errors import NotFound
from headrace_billing.outcomes.outcome import AcceptanceRule, ObserverGrade, Windows
from headrace_billing.outcomes.outcome_type import Fallback, OutcomeType
from headrace_billing.outcomes.task import Task, TaskAlreadyOpen
from headrace_contracts import channels
from headrace_contracts.access import TaskStatus


async def next_version(session: AsyncSession, name: str) -> int:
    """Waits for whoever is adding a version of the same name."""
    await session.execute(LOCK_NAME, {"name": f"outcome type {name}"})
    version: int = (await session.execute(SELECT_NEXT_VERSION, {"name": name})).scalar_one()
    return version


async def add_type(session: AsyncSession, kind: OutcomeType, *, at: datetime) -> None:
    await session.execute(
        INSERT_TYPE,
        {
            "id": kind.id,
            "name": kind.name,
            "version": kind.version,
            "criteria": kind.criteria,
            "verifier": kind.verifier,
            "price_nanos": kind.price_nanos,
            "currency": kind.currency,
            "fallback": kind.fallback,
            "confirming": sorted(kind.rule.confirming),
            "deemed": kind.rule.deemed_after_stability,
            "at": at,
            **{
                f"{name}_seconds": int(window.total_seconds())
                for name, window in asdict(kind.windows).items()
            },
        },
    )


async def newest_type(session: AsyncSession, named: str) -> OutcomeType:
    """`name` means its newest version, `name@version` that one. Raises `NotFound`."""
    name, _, version = named.partition("@")
    row = None
    if not version or (version.isdecimal() and len(version) < 9):
        found = await session.execute(SELECT_TYPE_BY_NAME, {"name": name, "version": int(version or 0)})
        row = found.mappings().first()
    return _type(row, named)


async def type_of(session: AsyncSession, type_id: str) -> OutcomeType:
    return _type((await session.execute(SELECT_TYPE, {"id": type_id})).mappings().first(), type_id)


async def add(session: AsyncSession, task: Task) -> str:
    """The Valkey key of its record, to push once the transaction stands. Raises `TaskAlreadyOpen`."""
    fresh = await session.execute(INSERT_TASK, asdict(task))
    if fresh.first() is None:
        # It may be closed by now; what was true a moment ago is still the answer.
        standing = (await session.execute(SELECT_OPEN, asdict(task))).scalar()
        raise TaskAlreadyOpen(standing or "Another task")
    key = channels.task(task.id)
    await outbox.write(session, key, task.record())
    return key


async def close(session: AsyncSession, task: Task, *, at: datetime) -> str:
    """The Valkey key of its record, to push once the transaction stands. The row must be locked."""
    row = (await session.execute(CLOSE_TASK, {"id": task.id, "at": at})).mappings().one()
    key = channels.task(task.id)
    await outbox.write(session, key, _task(row, task.id).record(), live=False)
    return key


async def lock(session: AsyncSession, task: str) -> Task:
    """Raises `NotFound`."""
    return _task((await session.execute(LOCK_TASK, {"id": task})).mappings().first(), task)


async def read(session: AsyncSession, task: str) -> Task:
    """Raises `NotFound`."""
    return _task((await session.execute(SELECT_TASK, {"id": task})).mappings().first(), task)


async def without_evidence(session: AsyncSession, *, before: datetime, limit: int) -> Sequence[str]:
    """Open tasks whose window for evidence is over and that have nothing undecided."""
    rows = await session.execute(SELECT_WITHOUT_EVIDENCE, {"before": before, "limit": limit})
    return list(rows.scalars())


def _type(row: RowMapping | None, key: str) -> OutcomeType:
    if row is None:
        raise NotFound("outcome type", key)
    return OutcomeType(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        criteria=row["criteria"],
        verifier=row["verifier"],
        price_nanos=int(row["price_nanos"]),
        currency=row["currency"],
        windows=Windows(**{name: timedelta(seconds=row[f"{name}_seconds"]) for name in WINDOWS}),
        fallback=Fallback(row["fallback"]),
        rule=AcceptanceRule(
            frozenset(ObserverGrade(grade) for grade in row["confirming"]), row["deemed_after_stability"]
        ),
    )


def _task(row: RowMapping | None, key: str) -> Task:
    if row is None:
        raise NotFound("task", key)
    return Task(**{**row, "status": TaskStatus(row["status"])})


WINDOWS = ("evidence", "verification", "stability", "confirmation", "dispute", "reversal")

TYPE_COLUMNS = (
    "id, name, version, criteria, verifier, price_nanos, currency, fallback, confirming, deemed_after_stability, "
    + ", ".join(f"{name}_seconds" for name in WINDOWS)
)
TASK_COLUMNS = (
    "id, org, project, wallet, outcome_type, outcome_name, dedupe_key, status, reserved, cost_guard_micros,"
    " opened_at, evidence_due_at, closed_at"
)

LOCK_NAME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
SELECT_NEXT_VERSION = text("SELECT coalesce(max(version), 0) + 1 FROM outcome_types WHERE name = :name")

INSERT_TYPE = text(f"""
    INSERT INTO outcome_types ({TYPE_COLUMNS}, created_at)
    VALUES (:id, :name, :version, :criteria, :verifier, :price_nanos, :currency, :fallback,
            CAST(:confirming AS text[]), :deemed, {", ".join(f":{name}_seconds" for name in WINDOWS)}, :at)
""")

SELECT_TYPE = text(f"SELECT {TYPE_COLUMNS} FROM outcome_types WHERE id = :id")
SELECT_TYPE_BY_NAME = text(f"""
    SELECT {TYPE_COLUMNS} FROM outcome_types WHERE name = :name AND (:version = 0 OR version = :version)
    ORDER BY version DESC LIMIT 1
""")

INSERT_TASK = text(f"""
    INSERT INTO tasks ({TASK_COLUMNS})
    VALUES (:id, :org, :project, :wallet, :outcome_type, :outcome_name, :dedupe_key, :status, :reserved,
            :cost_guard_micros, :opened_at, :evidence_due_at, :closed_at)
    ON CONFLICT (org, outcome_name, dedupe_key) WHERE status = 'open' DO NOTHING RETURNING id
""")
SELECT_OPEN = text("""
    SELECT id FROM tasks
    WHERE org = :org AND outcome_name = :outcome_name AND dedupe_key = :dedupe_key AND status = 'open'
""")
CLOSE_TASK = text(f"""
    UPDATE tasks SET status = 'closed', closed_at = coalesce(closed_at, :at) WHERE id = :id
    RETURNING {TASK_COLUMNS}
""")
LOCK_TASK = text(f"SELECT {TASK_COLUMNS} FROM tasks WHERE id = :id FOR UPDATE")
SELECT_TASK = text(f"SELECT {TASK_COLUMNS} FROM tasks WHERE id = :id")

SELECT_WITHOUT_EVIDENCE = text("""
    SELECT t.id FROM tasks t WHERE t.status = 'open' AND t.evidence_due_at <= :before AND NOT EXISTS (
      SELECT 1 FROM outcomes o WHERE o.task = t.id AND o.status IN ('reported', 'verifying', 'verified'))
    ORDER BY t.evidence_due_at LIMIT :limit
""")
