"""The admin's routes for credit: granting, looking at what became of it, and refunding what is left."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from headrace_billing.accounts import store as accounts
from headrace_billing.answers import Answering
from headrace_billing.approvals.approval import Approval, Wanted
from headrace_billing.approvals.asking import WAITS, ask_if_needed, waits
from headrace_billing.approvals.documents import Waiting
from headrace_billing.bodies import Amount, Body, Currency, Id, Listed, ModelName, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey, MemberOf
from headrace_billing.errors import BillingError, ExpiryInThePast
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.ledger import grants_store, spendable, store, wallets
from headrace_billing.ledger.grant import Grant, GrantKind, GrantSource
from headrace_billing.ledger.grants_store import Granted
from headrace_billing.ledger.lots import PRIORITY_DEFAULT, Holdings
from headrace_billing.ledger.refund import CreditNotRefundable, refund_transaction, refundable_nanos
from headrace_billing.money import major, nanos_of
from headrace_billing.parts import Parts, PartsOf

PRIORITY_MAX = 1000

router = APIRouter(tags=["credit"], dependencies=[AdminOnly], route_class=Answering)


class ScopeInvalid(BillingError):
    """Credit that no request of the wallet could ever burn."""

    code = "scope_invalid"


class Scope(Body):
    """Who may burn the credit; both of them if both are named."""

    project: Id | None = None
    model: ModelName | None = None


class NewCreditGrant(Body):
    project: Id | None = None
    wallet: Id | None = None
    amount: Amount
    currency: Currency
    kind: GrantKind
    source: GrantSource = GrantSource.MANUAL
    reason: Name
    expires_at: AwareDatetime | None = None
    scope: Scope = Scope()
    priority: Annotated[int, Field(ge=0, le=PRIORITY_MAX)] = PRIORITY_DEFAULT
    """Lower burns first, after credit that has a scope."""

    @model_validator(mode="after")
    def _one_target(self) -> "NewCreditGrant":
        if (self.project is None) == (self.wallet is None):
            msg = "name either a project or a wallet"
            raise ValueError(msg)
        return self


class Refund(Body):
    amount: Amount | None = None
    """Null refunds all that can be."""


class ScopeDocument(TypedDict):
    project: str | None
    model: str | None


class GrantDocument(TypedDict):
    id: str
    wallet: str
    amount: str
    remaining: str
    currency: str
    kind: GrantKind
    source: GrantSource
    reason: str
    scope: ScopeDocument
    priority: int
    granted_at: str
    expires_at: str | None


class NewGrantDocument(GrantDocument):
    balance: str


class MovementDocument(TypedDict):
    kind: str
    amount: str


class GrantHistory(GrantDocument):
    movements: list[MovementDocument]


class RefundDocument(TypedDict):
    id: str
    grant: str
    wallet: str
    amount: str
    currency: str
    refunded_at: str
    balance: str


@router.post("/v1/credit-grants", status_code=201, responses=WAITS)
async def grant_credit(
    body: NewCreditGrant,
    caller: MemberOf,
    parts: PartsOf,
    idempotency_key: IdempotencyKey,
    response: Response,
) -> NewGrantDocument | Waiting:
    """More than the seller's bound waits for a second member: the answer is 202 and holds the `approval`."""
    at, once = parts.now(), {"scope": "credit-grants", "key": idempotency_key}
    request = body.model_dump(mode="json")
    async with parts.database.begin() as session:
        answer: NewGrantDocument | Waiting | None = await recall(session, **once, request=request)
        if answer is None:
            grant, holdings = await _grant_of(session, body, at)
            (balance,) = await wallets.balances(session, [grant.wallet])
            wanted = Wanted(
                operation="grant_credit",
                org=balance.org,
                subject=grant.wallet,
                currency=grant.currency,
                amount_nanos=grant.amount_nanos,
                request=request,
                reason=grant.reason,
            )
            answer = await ask_if_needed(session, wanted, by=caller.member.id, at=at)
            if answer is None:
                answer = await _give(session, grant, holdings)
            await remember(session, **once, answer=answer)
    if waits(answer):
        response.status_code = HTTPStatus.ACCEPTED
    else:
        await spendable.push_soon(parts.database, parts.valkey, answer["wallet"])
    return answer


async def grant_as_agreed(
    session: AsyncSession, approval: Approval, _: str, at: datetime
) -> NewGrantDocument:
    """Gives what waited for a second member. Raises what the request would raise now."""
    return await _give(
        session, *await _grant_of(session, NewCreditGrant.model_validate(approval.request), at)
    )


async def tell_granted(parts: Parts, result: Mapping[str, Any]) -> None:
    await spendable.push_soon(parts.database, parts.valkey, result["wallet"])


async def _grant_of(session: AsyncSession, body: NewCreditGrant, at: datetime) -> tuple[Grant, Holdings]:
    """The grant and what it goes into, locked."""
    if body.expires_at is not None and body.expires_at <= at:
        raise ExpiryInThePast
    amount_nanos = nanos_of(body.amount)
    wallet = body.wallet or (await accounts.project(session, str(body.project))).wallet
    holdings = (await wallets.lock(session, [wallet]))[wallet]
    if holdings.currency != body.currency:
        raise wallets.CurrencyMismatch(wallet, holdings.currency)
    if body.scope.project is not None:
        project = await accounts.project(session, body.scope.project)
        if project.wallet != wallet:
            raise ScopeInvalid(f"{project.id} pays from another wallet than {wallet}.")
    grant = Grant(
        id=new_id("lot", at),
        wallet=wallet,
        currency=body.currency,
        amount_nanos=amount_nanos,
        kind=body.kind,
        source=body.source,
        reason=body.reason,
        at=at,
        expires_at=body.expires_at,
        scope=body.scope.project,
        scope_model=body.scope.model,
        priority=body.priority,
    )
    return grant, holdings


async def _give(session: AsyncSession, grant: Grant, holdings: Holdings) -> NewGrantDocument:
    await grants_store.give(session, grant, holdings)
    (balance,) = await wallets.balances(session, [grant.wallet])
    granted = await grants_store.granted(session, grant.id)
    return {**_document(granted), "balance": major(balance.balance_nanos)}


@router.get("/v1/credit-grants")
async def list_grants(parts: PartsOf, page: PageOf, wallet: Id | None = None) -> Listed[GrantDocument]:
    async with parts.database.begin() as session:
        found = await grants_store.page(session, wallet=wallet, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


@router.get("/v1/credit-grants/{grant_id}")
async def show_grant(grant_id: Id, parts: PartsOf) -> GrantHistory:
    """The grant, and what went into it and out of it, by why."""
    async with parts.database.snapshot() as session:
        grant = await grants_store.granted(session, grant_id)
        movements = await grants_store.movements(session, grant_id)
    return {
        **_document(grant),
        "movements": [{"kind": one.kind, "amount": major(one.nanos)} for one in movements],
    }


@router.post("/v1/credit-grants/{grant_id}/refund", status_code=201)
async def refund_grant(
    grant_id: Id, body: Refund, parts: PartsOf, idempotency_key: IdempotencyKey
) -> RefundDocument:
    """Takes what is left of paid credit out of the wallet; what arrived as money is owed to the customer from then on.

    Less than what running requests hold stays. A request that a gateway admits in the same moment may leave an
    overdraft, which is shown and never hidden.
    """
    at, once = parts.now(), {"scope": f"refund {grant_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer: RefundDocument | None = await recall(session, **once, request=body.model_dump(mode="json"))
        if answer is not None:
            return answer
        grant = await grants_store.granted(session, grant_id)
        holdings = (await wallets.lock(session, [grant.wallet]))[grant.wallet]
        lot = next((lot for lot in holdings.lots if lot.id == grant_id), None)
        if lot is None:
            raise CreditNotRefundable(f"{grant_id} is used up.")
        held = await spendable.held_micros(parts.valkey, grant.wallet)
        free = refundable_nanos(lot, holdings, held_micros=held, now=at)
        amount = free if body.amount is None else nanos_of(body.amount)
        if amount > free:
            raise CreditNotRefundable(f"At most {major(free)} of {grant_id} can be refunded.")
        refund = new_id("rfd", at)
        await store.post(
            session,
            refund_transaction(lot, amount, refund=refund, org=grant.org, source=grant.source, at=at),
        )
        (balance,) = await wallets.balances(session, [grant.wallet])
        answer = {
            "id": refund,
            "grant": grant_id,
            "wallet": grant.wallet,
            "amount": major(amount),
            "currency": grant.currency,
            "refunded_at": at.isoformat(),
            "balance": major(balance.balance_nanos),
        }
        await remember(session, **once, answer=answer)
    await spendable.push_soon(parts.database, parts.valkey, grant.wallet)
    return answer


def _document(grant: Granted) -> GrantDocument:
    return {
        "id": grant.id,
        "wallet": grant.wallet,
        "amount": major(grant.granted_nanos),
        "remaining": major(grant.remaining_nanos),
        "currency": grant.currency,
        "kind": grant.kind,
        "source": grant.source,
        "reason": grant.reason,
        "scope": {"project": grant.scope, "model": grant.scope_model},
        "priority": grant.priority,
        "granted_at": grant.granted_at.isoformat(),
        "expires_at": None if grant.expires_at is None else grant.expires_at.isoformat(),
    }
