"""Opening and closing a task: the price is reserved with the one, and earned or given back before the other.

Everything here runs in the caller's transaction: either the task is open, paid for and announced, or nothing is left.
Whoever changes a task or its outcome locks the wallet first, then the task, then the outcome.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.key import Project
from headrace_billing.ids import new_id
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger import wallets
from headrace_billing.outcomes import postings, store, task_store
from headrace_billing.outcomes.outcome_type import OutcomeType
from headrace_billing.outcomes.task import (
    OutcomeAlreadyBilled,
    Task,
    cost_guard_micros,
)
from headrace_contracts.access import TaskStatus
from headrace_contracts.usage import Disposition


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer asks for when it opens a task."""

    project: Project
    kind: OutcomeType
    dedupe_key: str
    cost_guard_nanos: int | None


async def open_task(session: AsyncSession, order: Order, *, at: datetime) -> tuple[Task, str]:
    """The task and the Valkey key of its record, to push once the transaction stands.

    Raises `CurrencyMismatch`, `OutcomeAlreadyBilled`, `TaskAlreadyOpen`, `InsufficientBalance`.
    """
    project, kind = order.project, order.kind
    if kind.currency != project.currency:
        raise wallets.CurrencyMismatch(project.wallet, project.currency)
    task = Task(
        id=new_id("task", at),
        org=project.org,
        project=project.id,
        wallet=project.wallet,
        outcome_type=kind.id,
        outcome_name=kind.name,
        dedupe_key=order.dedupe_key,
        status=TaskStatus.OPEN,
        reserved=project.disposition is Disposition.PREPAID,
        cost_guard_micros=cost_guard_micros(order.cost_guard_nanos, price_nanos=kind.price_nanos),
        opened_at=at,
        evidence_due_at=at + kind.windows.evidence,
    )
    if task.reserved:
        # Before the task refers to it: two that hold the reference and want the lock would wait for each other.
        await wallets.lock(session, [task.wallet])
    key = await task_store.add(session, task)
    if await store.billed(session, org=task.org, outcome_name=kind.name, dedupe_key=order.dedupe_key):
        raise OutcomeAlreadyBilled(order.dedupe_key)
    if task.reserved:
        taken = await wallets.take(session, task.wallet, kind.price_nanos, project=task.project)
        await ledger.post(
            session,
            postings.reserve(
                task=task.id,
                org=task.org,
                currency=kind.currency,
                price_nanos=kind.price_nanos,
                taken=taken,
                at=at,
            ),
        )
    return task, key


async def lock_task(session: AsyncSession, task_id: str) -> Task:
    """The task, locked after its wallet. Raises `NotFound`."""
    unlocked = await task_store.read(session, task_id)
    if unlocked.reserved:
        await wallets.lock(session, [unlocked.wallet])
    return await task_store.lock(session, task_id)


async def close_unbilled(session: AsyncSession, task: Task, *, at: datetime) -> str:
    """Closes the task and gives its reservation back; the Valkey key of its record. Wallet and task are locked."""
    if task.reserved:
        reservation = await ledger.transaction_by_key(session, postings.reservation_key(task.id))
        assert reservation is not None, f"{task.id} is reserved, but nothing was posted"
        await ledger.post(session, postings.release(reservation, task=task.id, at=at))
    return await task_store.close(session, task, at=at)
