"""How tasks and outcomes look to whoever asks: the same for the seller and the customer, with all that was proven."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.money import NANOS_PER_MICRO, major
from headrace_billing.outcomes import store, task_store
from headrace_billing.outcomes.outcome_type import OutcomeType
from headrace_billing.outcomes.store import Outcome
from headrace_billing.outcomes.task import Task

Document = dict[str, Any]


def type_document(kind: OutcomeType) -> Document:
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


async def task_document(session: AsyncSession, task: Task) -> Document:
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


async def outcome_document(session: AsyncSession, outcome: Outcome) -> Document:
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
            {**step, "at": step["at"].isoformat()} for step in await store.history_of(session, outcome.id)
        ],
    }


async def _evidence(session: AsyncSession, outcome: str) -> Sequence[Document]:
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
