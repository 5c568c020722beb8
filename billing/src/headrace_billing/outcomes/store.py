"""Outcomes in Postgres, with their evidence, verdicts and history. All but the status is written once."""

# ruff: noqa: S608 - what is put into the SQL here are column lists of this file

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.outcomes.evidence import Evidence, Observer
from headrace_billing.outcomes.outcome import AcceptedAs, ObserverGrade, OutcomeStatus, advance
from headrace_billing.outcomes.task import OutcomeAlreadyBilled, OutcomeAlreadyReported
from headrace_billing.outcomes.verification import Link
from headrace_billing.outcomes.verifiers.verdict import Verdict, VerificationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    id: str
    task: str
    attempt: int
    org: str
    project: str
    outcome_type: str
    outcome_name: str
    dedupe_key: str
    status: OutcomeStatus
    reported_at: datetime
    verified_at: datetime | None
    accepted_at: datetime | None
    accepted_as: AcceptedAs | None
    accepted_by: str | None
    invoice: str | None


async def add(session: AsyncSession, *, outcome: str, task: str, at: datetime, actor: str) -> None:
    """A new attempt of the task and its outcome, `reported`. Raises `OutcomeAlreadyReported`."""
    fresh = await session.execute(INSERT_OUTCOME, {"id": outcome, "task": task, "at": at})
    if fresh.first() is None:
        raise OutcomeAlreadyReported(task)
    await _remember(session, outcome, OutcomeStatus.REPORTED, at=at, actor=actor, reason="reported")


async def lock(session: AsyncSession, outcome: str) -> Outcome:
    """Raises `NotFound`."""
    return _outcome((await session.execute(LOCK_OUTCOME, {"id": outcome})).mappings().first(), outcome)


async def read(session: AsyncSession, outcome: str) -> Outcome:
    """Raises `NotFound`."""
    return _outcome((await session.execute(SELECT_OUTCOME, {"id": outcome})).mappings().first(), outcome)


async def of_task(session: AsyncSession, task: str) -> Sequence[Outcome]:
    rows = await session.execute(SELECT_OF_TASK, {"task": task})
    return [_outcome(row, task) for row in rows.mappings()]


async def move(
    session: AsyncSession, outcome: Outcome, to: OutcomeStatus, *, at: datetime, actor: str, reason: str
) -> None:
    """Raises `OutcomeTransitionIllegal`. The row must be locked."""
    advance(outcome.id, outcome.status, to)
    await session.execute(UPDATE_STATUS, {"id": outcome.id, "status": to, "at": at})
    await _remember(session, outcome.id, to, at=at, actor=actor, reason=reason)


async def accept(
    session: AsyncSession, outcome: Outcome, accepted_as: AcceptedAs, *, at: datetime, actor: str
) -> None:
    """Raises `OutcomeTransitionIllegal`, `OutcomeAlreadyBilled`. The row must be locked."""
    advance(outcome.id, outcome.status, OutcomeStatus.ACCEPTED)
    try:
        async with session.begin_nested():
            await session.execute(
                UPDATE_ACCEPTED, {"id": outcome.id, "at": at, "as": accepted_as, "by": actor}
            )
    except IntegrityError as error:
        if "one_billable_outcome" not in str(error.orig):
            raise
        raise OutcomeAlreadyBilled(outcome.dedupe_key) from error
    await _remember(session, outcome.id, OutcomeStatus.ACCEPTED, at=at, actor=actor, reason=accepted_as)


async def billed(session: AsyncSession, *, org: str, outcome_name: str, dedupe_key: str) -> bool:
    found = await session.execute(
        SELECT_BILLED, {"org": org, "outcome_name": outcome_name, "dedupe_key": dedupe_key}
    )
    return found.first() is not None


async def add_evidence(session: AsyncSession, evidence: Evidence) -> None:
    await session.execute(
        INSERT_EVIDENCE,
        {
            "id": evidence.id,
            "outcome": evidence.outcome,
            "grade": evidence.observer.grade,
            "observer": evidence.observer.id,
            "content": evidence.content,
            "sha256": evidence.sha256,
            "signature": evidence.signature,
            "at": evidence.recorded_at,
        },
    )


async def evidence_of(session: AsyncSession, outcome: str) -> Sequence[Evidence]:
    return [
        Evidence(
            id=row.id,
            outcome=row.outcome,
            observer=Observer(ObserverGrade(row.observer_grade), row.observer_id),
            content=row.content,
            sha256=row.sha256,
            recorded_at=row.recorded_at,
            signature=row.signature,
        )
        for row in await session.execute(SELECT_EVIDENCE, {"outcome": outcome})
    ]


@dataclass(frozen=True, slots=True)
class Verification:
    id: str
    verifier: str
    verdict: Verdict
    decided_at: datetime


async def add_verification(session: AsyncSession, outcome: str, verification: Verification) -> None:
    await session.execute(
        INSERT_VERIFICATION,
        {
            "id": verification.id,
            "outcome": outcome,
            "verifier": verification.verifier,
            "result": verification.verdict.result,
            "reason": verification.verdict.reason,
            "at": verification.decided_at,
        },
    )


async def verifications_of(session: AsyncSession, outcome: str) -> Sequence[Verification]:
    return [
        Verification(
            row.id, row.verifier, Verdict(VerificationResult(row.result), row.reason), row.decided_at
        )
        for row in await session.execute(SELECT_VERIFICATIONS, {"outcome": outcome})
    ]


async def history_of(session: AsyncSession, outcome: str) -> list[dict[str, Any]]:
    rows = await session.execute(SELECT_HISTORY, {"outcome": outcome})
    return [dict(row) for row in rows.mappings()]


async def link(session: AsyncSession, *, request: UUID, task: str) -> Link:
    """Whether usage knows the request, and as this task's."""
    row = (await session.execute(SELECT_REQUEST_TASK, {"request": request})).first()
    if row is None:
        return Link.UNSEEN
    return Link.PROVEN if row.task == task else Link.FOREIGN


async def undecided(session: AsyncSession, *, limit: int, after: str) -> list[str]:
    """Ids in order, so that one that can't be decided does not keep the rest from their turn."""
    rows = await session.execute(SELECT_UNDECIDED, {"limit": limit, "after": after})
    return list(rows.scalars())


async def _remember(
    session: AsyncSession, outcome: str, status: OutcomeStatus, *, at: datetime, actor: str, reason: str
) -> None:
    await session.execute(
        INSERT_HISTORY, {"outcome": outcome, "status": status, "at": at, "actor": actor, "reason": reason}
    )


def _outcome(row: RowMapping | None, key: str) -> Outcome:
    if row is None:
        raise NotFound("outcome", key)
    accepted_as = row["accepted_as"]
    return Outcome(
        **{
            **row,
            "status": OutcomeStatus(row["status"]),
            "accepted_as": None if accepted_as is None else AcceptedAs(accepted_as),
        }
    )


def content_of(evidence: Evidence) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(evidence.content)
    return content


COLUMNS = (
    "id, task, attempt, org, project, outcome_type, outcome_name, dedupe_key, status,"
    " reported_at, verified_at, accepted_at, accepted_as, accepted_by, invoice"
)

# The task's row is locked by whoever reports, so the next number is the next number.
INSERT_OUTCOME = text("""
    WITH attempt AS (
      INSERT INTO attempts (task, number, reported_at)
      SELECT t.id, (SELECT count(*) + 1 FROM attempts a WHERE a.task = t.id), :at FROM tasks t
      WHERE t.id = :task AND NOT EXISTS (
        SELECT 1 FROM outcomes o
        WHERE o.task = t.id AND o.status NOT IN ('rejected', 'expired', 'withdrawn', 'reversed'))
      RETURNING task, number
    )
    INSERT INTO outcomes
      (id, task, attempt, org, project, outcome_type, outcome_name, dedupe_key, status, reported_at)
    SELECT :id, t.id, a.number, t.org, t.project, t.outcome_type, t.outcome_name, t.dedupe_key, 'reported', :at
    FROM attempt a JOIN tasks t ON t.id = a.task
    RETURNING id
""")

LOCK_OUTCOME = text(f"SELECT {COLUMNS} FROM outcomes WHERE id = :id FOR UPDATE")
SELECT_OUTCOME = text(f"SELECT {COLUMNS} FROM outcomes WHERE id = :id")
SELECT_OF_TASK = text(f"SELECT {COLUMNS} FROM outcomes WHERE task = :task ORDER BY attempt")

UPDATE_STATUS = text("""
    UPDATE outcomes
    SET status = :status,
        verified_at = CASE WHEN :status = 'verified' THEN CAST(:at AS timestamptz) ELSE verified_at END
    WHERE id = :id
""")

UPDATE_ACCEPTED = text("""
    UPDATE outcomes SET status = 'accepted', accepted_at = :at, accepted_as = :as, accepted_by = :by WHERE id = :id
""")

SELECT_BILLED = text("""
    SELECT 1 FROM outcomes
    WHERE org = :org AND outcome_name = :outcome_name AND dedupe_key = :dedupe_key
      AND status IN ('accepted', 'invoiced', 'settled')
""")

INSERT_HISTORY = text("""
    INSERT INTO outcome_history (outcome, status, at, actor, reason) VALUES (:outcome, :status, :at, :actor, :reason)
""")
SELECT_HISTORY = text(
    "SELECT status, at, actor, reason FROM outcome_history WHERE outcome = :outcome ORDER BY id"
)

INSERT_EVIDENCE = text("""
    INSERT INTO evidence (id, outcome, observer_grade, observer_id, content, sha256, signature, recorded_at)
    VALUES (:id, :outcome, :grade, :observer, :content, :sha256, :signature, :at)
""")
SELECT_EVIDENCE = text("""
    SELECT id, outcome, observer_grade, observer_id, content, sha256, signature, recorded_at
    FROM evidence WHERE outcome = :outcome ORDER BY id
""")

INSERT_VERIFICATION = text("""
    INSERT INTO verifications (id, outcome, verifier, result, reason, decided_at)
    VALUES (:id, :outcome, :verifier, :result, :reason, :at)
""")
SELECT_VERIFICATIONS = text("""
    SELECT id, verifier, result, reason, decided_at FROM verifications WHERE outcome = :outcome ORDER BY id
""")

SELECT_REQUEST_TASK = text("SELECT task FROM usage_effective WHERE id = :request")

SELECT_UNDECIDED = text("""
    SELECT id FROM outcomes WHERE status IN ('reported', 'verifying', 'verified') AND id > :after
    ORDER BY id LIMIT :limit
""")
