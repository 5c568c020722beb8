"""Routes for outcome types (the seller's), and for tasks and outcomes (the customer's, by API key)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.bodies import PRINTABLE, Amount, Body, Currency, Id, Name
from headrace_billing.callers import Admin, AdminOnly, Caller, CallerOf, Customer, IdempotencyKey, OrgMember
from headrace_billing.errors import Forbidden, InvalidRequest, NotFound
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.members.member import BOOTSTRAP
from headrace_billing.money import currency_of, nanos_of
from headrace_billing.outcomes import lifecycle, store, task_store
from headrace_billing.outcomes.announcing import announce
from headrace_billing.outcomes.documents import (
    OutcomeDocument,
    TaskDocument,
    TypeDocument,
    outcome_document,
    task_document,
    type_document,
)
from headrace_billing.outcomes.evidence import Observer
from headrace_billing.outcomes.lifecycle import Case, lock_case
from headrace_billing.outcomes.opening import Order, open_task
from headrace_billing.outcomes.outcome import ObserverGrade, OutcomeStatus
from headrace_billing.outcomes.outcome_type import (
    Fallback,
    OutcomeType,
    fallback_of,
    rule_of,
    verifier_of,
    windows_of,
)
from headrace_billing.outcomes.task import DEDUPE_KEY_CHARACTERS_MAX, Task
from headrace_billing.parts import Parts, PartsOf
from headrace_contracts.access import KeyScope

router = APIRouter(tags=["outcomes"], route_class=Answering)

TypeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]
TypeLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,79}(@[1-9][0-9]{0,5})?$")]
DedupeKey = Annotated[
    str, StringConstraints(min_length=1, max_length=DEDUPE_KEY_CHARACTERS_MAX, pattern=PRINTABLE)
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
# A second to a year: a window of nothing would decide by accident, a longer one never.
Seconds = Annotated[int, Field(ge=1, le=366 * 86_400)]


class WindowsBody(Body):
    evidence_seconds: Seconds | None = None
    verification_seconds: Seconds | None = None
    stability_seconds: Seconds | None = None
    confirmation_seconds: Seconds | None = None
    dispute_seconds: Seconds | None = None
    reversal_seconds: Seconds | None = None


class AcceptanceBody(Body):
    confirming: tuple[ObserverGrade, ...] = (ObserverGrade.CUSTOMER,)
    deemed_after_stability: bool = False


class NewOutcomeType(Body):
    """Another version of the same name, where there is one: tasks keep the version that they opened with."""

    name: TypeName
    criteria: Text
    verifier: Name
    price: Amount
    currency: Currency
    windows: WindowsBody = WindowsBody()
    fallback: Fallback = Fallback.FREE
    acceptance: AcceptanceBody = AcceptanceBody()


class NewTask(Body):
    outcome_type: TypeLabel
    """A name means its newest version."""
    dedupe_key: DedupeKey
    cost_guard: Amount | None = None
    project: Id | None = None
    """A member's to say; an API key is its project's."""


class NewOutcome(Body):
    observer: Literal["agent"]
    evidence: dict[str, Any]


class Decision(Body):
    reason: Text = "no reason given"


@router.post("/v1/outcome-types", status_code=201, dependencies=[AdminOnly])
async def add_outcome_type(body: NewOutcomeType, parts: PartsOf) -> TypeDocument:
    at = parts.now()
    async with parts.database.begin() as session:
        kind = OutcomeType(
            id=new_id("otype", at),
            name=body.name,
            version=await task_store.next_version(session, body.name),
            criteria=body.criteria,
            verifier=verifier_of(body.verifier),
            price_nanos=nanos_of(body.price),
            currency=currency_of(body.currency),
            windows=windows_of(body.windows.model_dump(exclude_none=True)),
            fallback=fallback_of(body.fallback),
            rule=rule_of(
                body.acceptance.confirming, deemed_after_stability=body.acceptance.deemed_after_stability
            ),
        )
        await task_store.add_type(session, kind, at=at)
    return type_document(kind)


@router.post("/v1/tasks", status_code=201)
async def add_task(
    body: NewTask, caller: CallerOf, parts: PartsOf, idempotency_key: IdempotencyKey
) -> TaskDocument:
    at, project_id = parts.now(), _project_of(caller, body.project)
    once = {"scope": f"tasks:{project_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        known: TaskDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is not None:
            return known
        order = Order(
            project=await accounts.project(session, project_id),
            kind=await task_store.newest_type(session, body.outcome_type),
            dedupe_key=body.dedupe_key,
            cost_guard_nanos=None if body.cost_guard is None else nanos_of(body.cost_guard),
        )
        task, record = await open_task(session, order, at=at)
        answer = await task_document(session, task)
        await remember(session, **once, answer=answer)
    await announce(parts, record, wallet=task.wallet)
    return answer


@router.get("/v1/tasks/{task_id}")
async def show_task(task_id: Id, caller: CallerOf, parts: PartsOf) -> TaskDocument:
    async with parts.database.snapshot() as session:
        task = await task_store.read(session, task_id)
        _must_see(caller, task)
        return await task_document(session, task)


@router.post("/v1/tasks/{task_id}/outcomes", status_code=201)
async def report_outcome(
    task_id: Id, body: NewOutcome, caller: CallerOf, parts: PartsOf, idempotency_key: IdempotencyKey
) -> OutcomeDocument:
    """Reported for good by the first transaction; the verdict comes in a second one, at once or from the worker."""
    at = parts.now()
    once = {"scope": f"outcomes:{task_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        _must_see(caller, await task_store.read(session, task_id))
        known: dict[str, Any] | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if known is None:
            outcome_id = await lifecycle.report(
                session,
                task_id,
                observer=Observer(ObserverGrade.AGENT, _actor(caller)),
                content=body.evidence,
                at=at,
                signing_key=parts.signing_key,
            )
            await remember(session, **once, answer={"outcome": outcome_id})
        else:
            outcome_id = known["outcome"]
    if known is None:

        async def verify(session: AsyncSession, case: Case, at: datetime) -> str | None:
            return await lifecycle.pass_time(session, case, at=at)

        return await _step(parts, caller, outcome_id, verify)
    return await _show(parts, outcome_id)


@router.get("/v1/outcomes/{outcome_id}")
async def show_outcome(outcome_id: Id, caller: CallerOf, parts: PartsOf) -> OutcomeDocument:
    async with parts.database.snapshot() as session:
        outcome = await store.read(session, outcome_id)
        _must_see(caller, await task_store.read(session, outcome.task))
        return await outcome_document(session, outcome)


@router.post("/v1/outcomes/{outcome_id}/accept")
async def accept_outcome(
    outcome_id: Id, caller: CallerOf, parts: PartsOf, idempotency_key: IdempotencyKey
) -> OutcomeDocument:
    """The customer's word, as an observer of grade A. The seller can't accept what it sells."""
    if isinstance(caller, Admin):
        raise Forbidden("The seller can't accept an outcome; the customer does.")

    async def accept(session: AsyncSession, case: Case, at: datetime) -> str | None:
        grade, actor = ObserverGrade.CUSTOMER, _actor(caller)
        return await lifecycle.accept(session, case, grade=grade, actor=actor, at=at)

    return await _step(parts, caller, outcome_id, accept, once=idempotency_key, request="accept")


@router.post("/v1/outcomes/{outcome_id}/reject")
async def reject_outcome(
    outcome_id: Id,
    caller: CallerOf,
    parts: PartsOf,
    idempotency_key: IdempotencyKey,
    body: Decision | None = None,
) -> OutcomeDocument:
    """The customer's no makes it `rejected`, the seller's makes it `withdrawn`; neither is billed."""
    said = body or Decision()
    exit_to = OutcomeStatus.WITHDRAWN if isinstance(caller, Admin) else OutcomeStatus.REJECTED

    async def reject(session: AsyncSession, case: Case, at: datetime) -> str | None:
        return await lifecycle.leave(session, case, exit_to, at=at, actor=_actor(caller), reason=said.reason)

    return await _step(
        parts, caller, outcome_id, reject, once=idempotency_key, request=f"{exit_to}: {said.reason}"
    )


Step = Callable[[AsyncSession, Case, datetime], Awaitable[str | None]]


async def _step(
    parts: Parts,
    caller: Caller,
    outcome_id: str,
    step: Step,
    *,
    once: str | None = None,
    request: str = "",
) -> OutcomeDocument:
    """One step of the outcome's way in one transaction, told to the gateways once it stands."""
    async with parts.database.begin() as session:
        case = await lock_case(session, outcome_id)
        _must_see(caller, case.task)
        scope = f"outcome:{outcome_id}"
        if once is not None and await recall(session, scope=scope, key=once, request=request) is not None:
            return await outcome_document(session, case.outcome)
        record = await step(session, case, parts.now())
        if once is not None:
            await remember(session, scope=scope, key=once, answer={"outcome": outcome_id})
        answer = await outcome_document(session, await store.read(session, outcome_id))
    if record is not None:
        await announce(parts, record, wallet=case.task.wallet)
    return answer


async def _show(parts: Parts, outcome_id: str) -> OutcomeDocument:
    async with parts.database.snapshot() as session:
        return await outcome_document(session, await store.read(session, outcome_id))


def _project_of(caller: Caller, named: str | None) -> str:
    if isinstance(caller, Customer):
        caller.require(KeyScope.TASKS)
        if named not in (None, caller.project):
            raise NotFound("project", named)
        return caller.project
    if named is None:
        raise InvalidRequest("project: a member's token belongs to no project; name one.")
    return named


def _must_see(caller: Caller, task: Task) -> None:
    """Raises `NotFound` for another project's: whether it exists is none of the caller's business."""
    if isinstance(caller, Customer):
        caller.require(KeyScope.TASKS)
        if caller.project != task.project:
            raise NotFound("task", task.id)
    elif isinstance(caller, OrgMember) and caller.org != task.org:
        raise NotFound("task", task.id)


def _actor(caller: Caller) -> str:
    if isinstance(caller, Customer):
        return f"key:{caller.key}"
    return "admin" if caller.member is BOOTSTRAP else f"member:{caller.member.id}"
