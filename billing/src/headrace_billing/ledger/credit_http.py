"""The admin's routes for credit: granting, looking at what became of it, and refunding what is left."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, model_validator

from headrace_billing.accounts import store as accounts
from headrace_billing.bodies import Amount, Body, Currency, Id, ModelName, Name, PageOf, page_of
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.errors import BillingError, ExpiryInThePast
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.ledger import grants_store, spendable, store, wallets
from headrace_billing.ledger.grant import Grant, GrantKind, GrantSource
from headrace_billing.ledger.grants_store import Granted
from headrace_billing.ledger.lots import PRIORITY_DEFAULT
from headrace_billing.ledger.refund import CreditNotRefundable, refund_transaction, refundable_nanos
from headrace_billing.money import major, nanos_of
from headrace_billing.parts import PartsOf

PRIORITY_MAX = 1000

router = APIRouter(tags=["credit"], dependencies=[AdminOnly])


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


@router.post("/v1/credit-grants", status_code=201)
async def grant_credit(
    body: NewCreditGrant, parts: PartsOf, idempotency_key: IdempotencyKey
) -> dict[str, Any]:
    at, amount_nanos = parts.now(), nanos_of(body.amount)
    if body.expires_at is not None and body.expires_at <= at:
        raise ExpiryInThePast
    async with parts.database.begin() as session:
        answer = await recall(
            session, scope="credit-grants", key=idempotency_key, request=body.model_dump(mode="json")
        )
        if answer is not None:
            return answer
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
        await grants_store.give(session, grant, holdings)
        (balance,) = await wallets.balances(session, [wallet])
        granted = await grants_store.granted(session, grant.id)
        answer = {**_document(granted), "balance": major(balance.balance_nanos)}
        await remember(session, scope="credit-grants", key=idempotency_key, answer=answer)
    await spendable.push_soon(parts.database, parts.valkey, wallet)
    return answer


@router.get("/v1/credit-grants")
async def list_grants(parts: PartsOf, page: PageOf, wallet: Id | None = None) -> dict[str, Any]:
    async with parts.database.begin() as session:
        found = await grants_store.page(session, wallet=wallet, after=page.begins_after, limit=page.limit)
    return page_of([_document(one) for one in found], page)


@router.get("/v1/credit-grants/{grant_id}")
async def show_grant(grant_id: Id, parts: PartsOf) -> dict[str, Any]:
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
) -> dict[str, Any]:
    """Takes what is left of paid credit out of the wallet; what arrived as money is owed to the customer from then on.

    Less than what running requests hold stays. A request that a gateway admits in the same moment may leave an
    overdraft, which is shown and never hidden.
    """
    at, once = parts.now(), {"scope": f"refund {grant_id}", "key": idempotency_key}
    async with parts.database.begin() as session:
        answer = await recall(session, **once, request=body.model_dump(mode="json"))
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


def _document(grant: Granted) -> dict[str, Any]:
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
