"""The admin's routes for credit, and the books at a glance."""

from typing import Any

import structlog
from fastapi import APIRouter
from pydantic import AwareDatetime, model_validator

from headrace_billing.accounts import store as accounts
from headrace_billing.bodies import Amount, Body, Currency, Id, Name
from headrace_billing.callers import AdminOnly, IdempotencyKey
from headrace_billing.errors import ExpiryInThePast
from headrace_billing.idempotency import recall, remember
from headrace_billing.ids import new_id
from headrace_billing.ledger import spendable, store, wallets
from headrace_billing.ledger.grant import Grant, GrantKind, GrantSource, grant_transactions
from headrace_billing.ledger.wallets import WalletBalance
from headrace_billing.money import major, nanos_of
from headrace_billing.parts import PartsOf
from headrace_billing.valkey import ValkeyError

log = structlog.get_logger()
router = APIRouter(tags=["ledger"], dependencies=[AdminOnly])


class NewCreditGrant(Body):
    project: Id | None = None
    wallet: Id | None = None
    amount: Amount
    currency: Currency
    kind: GrantKind
    source: GrantSource = GrantSource.MANUAL
    reason: Name
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_target(self) -> "NewCreditGrant":
        if (self.project is None) == (self.wallet is None):
            msg = "name either a project or a wallet"
            raise ValueError(msg)
        return self


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
        )
        await wallets.open_lot(
            session,
            lot=grant.id,
            wallet=wallet,
            kind=grant.account.kind,
            currency=grant.currency,
            granted_nanos=amount_nanos,
            at=at,
            expires_at=grant.expires_at,
        )
        await store.post_all(session, grant_transactions(grant, holdings))
        (balance,) = await wallets.balances(session, [wallet])
        answer = _grant_document(grant, balance)
        await remember(session, scope="credit-grants", key=idempotency_key, answer=answer)
    try:
        await spendable.push(parts.database, parts.valkey, [wallet])
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", wallet=wallet, error=type(error).__name__)
    return answer


@router.get("/v1/wallets/{wallet_id}")
async def show_wallet(wallet_id: Id, parts: PartsOf) -> dict[str, Any]:
    async with parts.database.begin() as session:
        await wallets.require(session, wallet_id)
        (balance,) = await wallets.balances(session, [wallet_id])
        lots = await wallets.lots(session, wallet_id)
    return {
        **_balance_document(balance),
        "lots": [
            {
                "id": lot.id,
                "kind": lot.kind,
                "remaining": major(lot.remaining_nanos),
                "expires_at": None if lot.expires_at is None else lot.expires_at.isoformat(),
            }
            for lot in lots
        ],
    }


@router.get("/v1/ledger/trial-balance")
async def show_trial_balance(parts: PartsOf) -> dict[str, Any]:
    """Summed from the postings. Debits are positive; each currency's sum is zero."""
    async with parts.database.snapshot() as session:
        found = await store.trial_balance(session)
    return {
        "as_of": parts.now().isoformat(),
        "currencies": [{"currency": c, "sum": major(nanos)} for c, nanos in found.by_currency.items()],
        "accounts": [
            {"currency": currency, "kind": kind, "balance": major(nanos)}
            for (currency, kind), nanos in found.by_account.items()
        ],
    }


def _balance_document(balance: WalletBalance) -> dict[str, Any]:
    return {
        "id": balance.wallet,
        "organization": balance.org,
        "currency": balance.currency,
        "balance": major(balance.balance_nanos),
        "version": balance.version,
    }


def _grant_document(grant: Grant, balance: WalletBalance) -> dict[str, Any]:
    return {
        "id": grant.id,
        "wallet": grant.wallet,
        "amount": major(grant.amount_nanos),
        "currency": grant.currency,
        "kind": grant.kind,
        "source": grant.source,
        "reason": grant.reason,
        "granted_at": grant.at.isoformat(),
        "expires_at": None if grant.expires_at is None else grant.expires_at.isoformat(),
        "balance": major(balance.balance_nanos),
    }
