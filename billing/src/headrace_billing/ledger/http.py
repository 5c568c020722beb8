"""The admin's routes for wallets, and what they are to tell of."""

from fastapi import APIRouter
from typing_extensions import TypedDict

from headrace_billing.answers import Answering
from headrace_billing.bodies import Amount, Body, Id, Listed, PageOf, page_of
from headrace_billing.callers import AdminOnly
from headrace_billing.ledger import notices, wallets
from headrace_billing.ledger.notices import NoticeDocument
from headrace_billing.ledger.wallets import WalletBalance
from headrace_billing.money import major, nanos_of
from headrace_billing.parts import PartsOf

router = APIRouter(tags=["ledger"], dependencies=[AdminOnly], route_class=Answering)


class LotScope(TypedDict):
    project: str | None
    model: str | None


class LotDocument(TypedDict):
    id: str
    kind: str
    scope: LotScope
    priority: int
    remaining: str
    expires_at: str | None


class WalletSummary(TypedDict):
    id: str
    organization: str
    currency: str
    balance: str
    spendable: str
    version: int


class WalletDocument(WalletSummary):
    lots: list[LotDocument]


class AlertDocument(TypedDict):
    wallet: str
    below: str | None


class Alert(Body):
    below: Amount | None
    """Null tells nothing any more."""


@router.get("/v1/wallets/{wallet_id}")
async def show_wallet(wallet_id: Id, parts: PartsOf) -> WalletDocument:
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
                "scope": {"project": lot.scope, "model": lot.scope_model},
                "priority": lot.priority,
                "remaining": major(lot.remaining_nanos),
                "expires_at": None if lot.expires_at is None else lot.expires_at.isoformat(),
            }
            for lot in lots
        ],
    }


@router.put("/v1/wallets/{wallet_id}/alert")
async def set_alert(wallet_id: Id, body: Alert, parts: PartsOf) -> AlertDocument:
    """Makes a notice each time that the wallet's balance falls below the amount."""
    below = None if body.below is None else nanos_of(body.below)
    async with parts.database.begin() as session:
        await wallets.require(session, wallet_id)
        await notices.set_alert(session, wallet_id, below_nanos=below)
    return {"wallet": wallet_id, "below": None if below is None else major(below)}


@router.get("/v1/notices")
async def list_notices(
    parts: PartsOf, page: PageOf, organization: Id | None = None
) -> Listed[NoticeDocument]:
    """What organizations are to be told of, in the order in which it happened."""
    async with parts.database.begin() as session:
        found = await notices.page(session, org=organization, after=page.begins_after, limit=page.limit)
    return page_of(found, page)


def _balance_document(balance: WalletBalance) -> WalletSummary:
    return {
        "id": balance.wallet,
        "organization": balance.org,
        "currency": balance.currency,
        "balance": major(balance.balance_nanos),
        "spendable": major(balance.spendable_nanos),
        "version": balance.version,
    }
