"""What payments look like to callers."""

from typing_extensions import TypedDict

from headrace_billing.invoicing.amounts import plain
from headrace_billing.money import major
from headrace_billing.payments.auto_top_up import AutoTopUp
from headrace_billing.payments.dispute import Dispute
from headrace_billing.payments.dunning import SCHEDULE, Dunning
from headrace_billing.payments.money_seen import CardSeen
from headrace_billing.payments.refund_store import TopUpRefund
from headrace_billing.payments.top_up import TopUp, TopUpState, Way


class TopUpDocument(TypedDict):
    id: str
    organization: str
    wallet: str | None
    invoice: str | None
    sign_up: str | None
    amount: str
    currency: str
    way: Way
    card: str | None
    state: TopUpState
    reason: str | None
    url: str | None
    payment: str | None
    grant: str | None
    created_at: str
    expires_at: str


class RefundDocument(TypedDict):
    id: str
    top_up: str
    amount: str
    currency: str
    state: str
    refund: str | None
    created_at: str


class RefundsDocument(TypedDict):
    items: list[RefundDocument]


class DisputeDocument(TypedDict):
    id: str
    organization: str | None
    top_up: str | None
    amount: str | None
    currency: str | None
    state: str
    reason: str | None
    heard_at: str


class CardDocument(TypedDict):
    id: str
    brand: str
    last4: str
    expires: str


class CardsDocument(TypedDict):
    items: list[CardDocument]


class CardPageDocument(TypedDict):
    organization: str
    url: str


class DefaultCardDocument(TypedDict):
    organization: str
    card: str | None


class DunningDocument(TypedDict):
    invoice: str
    state: str
    due_at: str
    steps_done: int
    steps: int
    next_at: str | None


class AutoTopUpDocument(TypedDict):
    wallet: str
    threshold: str
    amount: str
    currency: str
    monthly_ceiling: str
    card: str
    state: str
    stopped_reason: str | None


def top_up_document(top_up: TopUp) -> TopUpDocument:
    return {
        "id": top_up.id,
        "organization": top_up.org,
        "wallet": top_up.wallet,
        "invoice": top_up.invoice,
        "sign_up": top_up.sign_up,
        "amount": plain(top_up.amount_minor, top_up.currency),
        "currency": top_up.currency,
        "way": top_up.way,
        "card": top_up.card,
        "state": top_up.state,
        "reason": top_up.reason,
        "url": top_up.url,
        "payment": top_up.payment,
        "grant": top_up.lot,
        "created_at": top_up.created_at.isoformat(),
        "expires_at": top_up.expires_at.isoformat(),
    }


def refund_document(refund: TopUpRefund, top_up: TopUp) -> RefundDocument:
    return {
        "id": refund.id,
        "top_up": refund.top_up,
        "amount": plain(refund.amount_minor, top_up.currency),
        "currency": top_up.currency,
        "state": refund.state,
        "refund": refund.refund,
        "created_at": refund.created_at.isoformat(),
    }


def dispute_document(dispute: Dispute) -> DisputeDocument:
    known = dispute.amount_minor is not None and dispute.currency is not None
    return {
        "id": dispute.id,
        "organization": dispute.org,
        "top_up": dispute.top_up,
        "amount": plain(dispute.amount_minor or 0, dispute.currency or "") if known else None,
        "currency": dispute.currency,
        "state": dispute.state,
        "reason": dispute.reason,
        "heard_at": dispute.heard_at.isoformat(),
    }


def card_document(card: CardSeen) -> CardDocument:
    return {"id": card.id, "brand": card.brand, "last4": card.last4, "expires": card.expires}


def dunning_document(dunning: Dunning) -> DunningDocument:
    return {
        "invoice": dunning.invoice,
        "state": dunning.state,
        "due_at": dunning.due_at.isoformat(),
        "steps_done": dunning.step,
        "steps": len(SCHEDULE),
        "next_at": None if dunning.next_at is None else dunning.next_at.isoformat(),
    }


def auto_top_up_document(auto: AutoTopUp) -> AutoTopUpDocument:
    return {
        "wallet": auto.wallet,
        "threshold": major(auto.threshold_nanos),
        "amount": plain(auto.amount_minor, auto.currency),
        "currency": auto.currency,
        "monthly_ceiling": plain(auto.monthly_ceiling_minor, auto.currency),
        "card": auto.card,
        "state": auto.state,
        "stopped_reason": auto.stopped_reason,
    }
