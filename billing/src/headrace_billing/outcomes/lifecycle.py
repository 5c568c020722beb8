"""The way of an outcome from report to acceptance or exit, step by step, each in the caller's transaction.

A step returns the Valkey key of the task's record where it closed the task, to push once the transaction stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import BillingError
from headrace_billing.ids import new_id
from headrace_billing.ledger import store as ledger
from headrace_billing.outcomes import evidence, postings, store, task_store
from headrace_billing.outcomes.opening import close_unbilled, lock_task
from headrace_billing.outcomes.outcome import (
    AcceptedAs,
    Due,
    ObserverGrade,
    OutcomeStatus,
    OutcomeTransitionIllegal,
    advance,
    due,
)
from headrace_billing.outcomes.outcome_type import OutcomeType
from headrace_billing.outcomes.store import Outcome, Verification
from headrace_billing.outcomes.task import Task, TaskClosed
from headrace_billing.outcomes.verification import TOO_LATE, decide, request_of
from headrace_billing.outcomes.verifiers import VERIFIERS
from headrace_billing.outcomes.verifiers.verdict import Verdict, VerificationResult
from headrace_contracts.access import TaskStatus

CLOCK = "clock"
"""The actor of what nobody did: a window went by."""


class OutcomeWindowClosed(BillingError):
    """The window for accepting the outcome is over."""

    code = "outcome_window_closed"

    def __init__(self, outcome: str) -> None:
        super().__init__(f"The window for accepting {outcome} is over.")


@dataclass(frozen=True, slots=True)
class Case:
    """An outcome with all that decides about it; wallet, task and outcome are locked."""

    outcome: Outcome
    task: Task
    kind: OutcomeType

    def due(self, now: datetime) -> Due:
        return due(
            self.outcome.status,
            reported_at=self.outcome.reported_at,
            verified_at=self.outcome.verified_at,
            windows=self.kind.windows,
            rule=self.kind.rule,
            now=now,
        )


async def lock_case(session: AsyncSession, outcome_id: str) -> Case:
    """Raises `NotFound`."""
    unlocked = await store.read(session, outcome_id)
    task = await lock_task(session, unlocked.task)
    outcome = await store.lock(session, outcome_id)
    return Case(outcome, task, await task_store.type_of(session, outcome.outcome_type))


async def report(
    session: AsyncSession,
    task_id: str,
    *,
    observer: evidence.Observer,
    content: Mapping[str, Any],
    at: datetime,
    signing_key: bytes,
) -> str:
    """The id of the reported outcome. Raises `NotFound`, `TaskClosed`, `EvidenceInvalid`, `OutcomeAlreadyReported`."""
    task = await task_store.lock(session, task_id)
    if task.status is not TaskStatus.OPEN or at >= task.evidence_due_at:
        raise TaskClosed(task.id)
    kind = await task_store.type_of(session, task.outcome_type)
    VERIFIERS[kind.verifier].check(content)
    request_of(content)
    outcome = new_id("outcome", at)
    await store.add(session, outcome=outcome, task=task.id, at=at, actor=observer.id)
    await store.add_evidence(
        session,
        evidence.record(
            id=new_id("evidence", at),
            outcome=outcome,
            observer=observer,
            content=content,
            at=at,
            signing_key=signing_key,
        ),
    )
    return outcome


async def verify(session: AsyncSession, case: Case, *, at: datetime) -> str | None:
    """Runs the verifier over the evidence, unless the usage that it needs as proof is still to come."""
    case = await _verifying(session, case, at=at)
    verifier = VERIFIERS[case.kind.verifier]
    # One report, one piece of evidence; an observer that adds to it later has its own outcome type to come.
    (reported,) = await store.evidence_of(session, case.outcome.id)
    content = store.content_of(reported)
    link = await store.link(session, request=request_of(content), task=case.task.id)
    verdict = decide(verifier.judge(content), link)
    if verdict is None:
        return None
    await _record(session, case, verdict, at=at)
    if verdict.result is VerificationResult.PASS:
        await store.move(
            session, case.outcome, OutcomeStatus.VERIFIED, at=at, actor=verifier.id, reason=verdict.reason
        )
        return None
    return await leave(session, case, OutcomeStatus.REJECTED, at=at, actor=verifier.id, reason=verdict.reason)


async def accept(session: AsyncSession, case: Case, *, grade: ObserverGrade, actor: str, at: datetime) -> str:
    """Somebody says yes. Raises `ObserverInsufficient`, `OutcomeTransitionIllegal` and what `bill` raises."""
    accepted_as = case.kind.rule.confirmed_by(grade)
    advance(case.outcome.id, case.outcome.status, OutcomeStatus.ACCEPTED)
    if case.due(at) is Due.EXPIRY:
        raise OutcomeWindowClosed(case.outcome.id)
    return await bill(session, case, accepted_as, at=at, actor=actor)


async def bill(
    session: AsyncSession, case: Case, accepted_as: AcceptedAs, *, at: datetime, actor: str
) -> str:
    """From here on it is owed. Raises `OutcomeAlreadyBilled`."""
    await store.accept(session, case.outcome, accepted_as, at=at, actor=actor)
    await ledger.post(
        session,
        postings.accept(
            outcome=case.outcome.id,
            task=case.task.id,
            org=case.task.org,
            currency=case.kind.currency,
            price_nanos=case.kind.price_nanos,
            prepaid=case.task.reserved,
            at=at,
        ),
    )
    return await task_store.close(session, case.task, at=at)


async def leave(
    session: AsyncSession, case: Case, exit_to: OutcomeStatus, *, at: datetime, actor: str, reason: str
) -> str:
    """Nothing is owed: the reservation goes back and the task is closed. Raises `OutcomeTransitionIllegal`."""
    await store.move(session, case.outcome, exit_to, at=at, actor=actor, reason=reason)
    return await close_unbilled(session, case.task, at=at)


async def pass_time(session: AsyncSession, case: Case, *, at: datetime) -> str | None:
    """What the clock brings about, and else another try to verify."""
    waiting = case.outcome.status in {OutcomeStatus.REPORTED, OutcomeStatus.VERIFYING}
    match case.due(at):
        case Due.DEEMED_ACCEPTANCE if await store.billed(
            session,
            org=case.task.org,
            outcome_name=case.outcome.outcome_name,
            dedupe_key=case.outcome.dedupe_key,
        ):
            return await leave(
                session, case, OutcomeStatus.EXPIRED, at=at, actor=CLOCK, reason="billed by another outcome"
            )
        case Due.DEEMED_ACCEPTANCE:
            return await bill(session, case, AcceptedAs.DEEMED, at=at, actor=CLOCK)
        case Due.EXPIRY if waiting:
            await _record(session, case, TOO_LATE, at=at)
            return await leave(
                session, case, OutcomeStatus.EXPIRED, at=at, actor=CLOCK, reason=TOO_LATE.reason
            )
        case Due.EXPIRY:
            return await leave(
                session, case, OutcomeStatus.EXPIRED, at=at, actor=CLOCK, reason="nobody confirmed it in time"
            )
        case Due.NOTHING:
            return await verify(session, case, at=at) if waiting else None


async def _verifying(session: AsyncSession, case: Case, *, at: datetime) -> Case:
    match case.outcome.status:
        case OutcomeStatus.VERIFYING:
            return case
        case OutcomeStatus.REPORTED:
            await store.move(
                session,
                case.outcome,
                OutcomeStatus.VERIFYING,
                at=at,
                actor=case.kind.verifier,
                reason="verification began",
            )
            return Case(await store.lock(session, case.outcome.id), case.task, case.kind)
        case status:
            raise OutcomeTransitionIllegal(case.outcome.id, status, OutcomeStatus.VERIFYING)


async def _record(session: AsyncSession, case: Case, verdict: Verdict, *, at: datetime) -> None:
    await store.add_verification(
        session, case.outcome.id, Verification(new_id("verification", at), case.kind.verifier, verdict, at)
    )
