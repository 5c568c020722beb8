"""How tasks and outcomes look to whoever asks: the same for the seller and the customer, with all that was proven."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.money import NANOS_PER_MICRO, major
from headrace_billing.outcomes import store, task_store
from headrace_billing.outcomes.outcome_type import OutcomeType
from headrace_billing.outcomes.store import Outcome
from headrace_billing.outcomes.task import Task


class AcceptanceDocument(TypedDict):
    confirming: list[str]
    deemed_after_stability: bool


class TypeDocument(TypedDict):
    id: str
    name: str
    version: int
    criteria: str
    verifier: str
    price: str
    currency: str
    fallback: str
    windows: Mapping[str, int]
    acceptance: AcceptanceDocument


class OutcomeOfTask(TypedDict):
    id: str
    attempt: int
    status: str


class TaskDocument(TypedDict):
    id: str
    status: str
    project: str
    outcome_type: str
    dedupe_key: str
    price: str
    currency: str
    reserved: bool
    cost_guard: str
    opened_at: str
    evidence_due_at: str
    closed_at: str | None
    outcomes: list[OutcomeOfTask]


class ObserverDocument(TypedDict):
    grade: str
    id: str


class EvidenceDocument(TypedDict):
    id: str
    observer: ObserverDocument
    content: Any
    sha256: str
    signature: str
    recorded_at: str


class VerificationDocument(TypedDict):
    id: str
    verifier: str
    result: str
    reason: str
    decided_at: str


class StepDocument(TypedDict):
    status: str
    at: str
    actor: str
    reason: str | None


class OutcomeDocument(TypedDict):
    id: str
    task: str
    attempt: int
    status: str
    project: str
    outcome_type: str
    dedupe_key: str
    price: str
    currency: str
    reported_at: str
    verified_at: str | None
    accepted_at: str | None
    accepted_as: str | None
    accepted_by: str | None
    invoice: str | None
    evidence: Sequence[EvidenceDocument]
    verifications: list[VerificationDocument]
    history: list[StepDocument]


def type_document(kind: OutcomeType) -> TypeDocument:
    windows = kind.windows
    return {
        "id": kind.id,
        "name": kind.name,
        "version": kind.version,
        "criteria": kind.criteria,
        "verifier": kind.verifier,
        "price": major(kind.price_nanos),
        "currency": kind.currency,
        "fallback": kind.fallback,
        "windows": {
            f"{name}_seconds": int(getattr(windows, name).total_seconds()) for name in task_store.WINDOWS
        },
        "acceptance": {
            "confirming": sorted(kind.rule.confirming),
            "deemed_after_stability": kind.rule.deemed_after_stability,
        },
    }


async def task_document(session: AsyncSession, task: Task) -> TaskDocument:
    kind = await task_store.type_of(session, task.outcome_type)
    return {
        "id": task.id,
        "status": task.status,
        "project": task.project,
        "outcome_type": kind.label,
        "dedupe_key": task.dedupe_key,
        "price": major(kind.price_nanos),
        "currency": kind.currency,
        "reserved": task.reserved,
        "cost_guard": major(task.cost_guard_micros * NANOS_PER_MICRO),
        "opened_at": task.opened_at.isoformat(),
        "evidence_due_at": task.evidence_due_at.isoformat(),
        "closed_at": _moment(task.closed_at),
        "outcomes": [
            {"id": outcome.id, "attempt": outcome.attempt, "status": outcome.status}
            for outcome in await store.of_task(session, task.id)
        ],
    }


async def outcome_document(session: AsyncSession, outcome: Outcome) -> OutcomeDocument:
    kind = await task_store.type_of(session, outcome.outcome_type)
    return {
        "id": outcome.id,
        "task": outcome.task,
        "attempt": outcome.attempt,
        "status": outcome.status,
        "project": outcome.project,
        "outcome_type": kind.label,
        "dedupe_key": outcome.dedupe_key,
        "price": major(kind.price_nanos),
        "currency": kind.currency,
        "reported_at": outcome.reported_at.isoformat(),
        "verified_at": _moment(outcome.verified_at),
        "accepted_at": _moment(outcome.accepted_at),
        "accepted_as": outcome.accepted_as,
        "accepted_by": outcome.accepted_by,
        "invoice": outcome.invoice,
        "evidence": await _evidence(session, outcome.id),
        "verifications": [
            {
                "id": one.id,
                "verifier": one.verifier,
                "result": one.verdict.result,
                "reason": one.verdict.reason,
                "decided_at": one.decided_at.isoformat(),
            }
            for one in await store.verifications_of(session, outcome.id)
        ],
        "history": [
            {
                "status": step["status"],
                "at": step["at"].isoformat(),
                "actor": step["actor"],
                "reason": step["reason"],
            }
            for step in await store.history_of(session, outcome.id)
        ],
    }


async def _evidence(session: AsyncSession, outcome: str) -> Sequence[EvidenceDocument]:
    return [
        {
            "id": one.id,
            "observer": {"grade": one.observer.grade, "id": one.observer.id},
            "content": store.content_of(one),
            "sha256": one.sha256,
            "signature": one.signature,
            "recorded_at": one.recorded_at.isoformat(),
        }
        for one in await store.evidence_of(session, outcome)
    ]


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
