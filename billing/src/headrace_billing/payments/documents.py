"""What payments look like to callers."""

from typing import Any

from headrace_billing.invoicing.amounts import plain
from headrace_billing.money import major
from headrace_billing.payments.auto_top_up import AutoTopUp
from headrace_billing.payments.dispute import Dispute
from headrace_billing.payments.dunning import SCHEDULE, Dunning
from headrace_billing.payments.money_seen import CardSeen
from headrace_billing.payments.refund_store import TopUpRefund
from headrace_billing.payments.top_up import TopUp


def top_up_document(top_up: TopUp) -> dict[str, Any]:
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


def refund_document(refund: TopUpRefund, top_up: TopUp) -> dict[str, Any]:
    return {
        "id": refund.id,
        "top_up": refund.top_up,
        "amount": plain(refund.amount_minor, top_up.currency),
        "currency": top_up.currency,
        "state": refund.state,
        "refund": refund.refund,
        "created_at": refund.created_at.isoformat(),
    }


def dispute_document(dispute: Dispute) -> dict[str, Any]:
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


def card_document(card: CardSeen) -> dict[str, Any]:
    return {"id": card.id, "brand": card.brand, "last4": card.last4, "expires": card.expires}


def dunning_document(dunning: Dunning) -> dict[str, Any]:
    return {
        "invoice": dunning.invoice,
        "state": dunning.state,
        "due_at": dunning.due_at.isoformat(),
        "steps_done": dunning.step,
        "steps": len(SCHEDULE),
        "next_at": None if dunning.next_at is None else dunning.next_at.isoformat(),
    }


def auto_top_up_document(auto: AutoTopUp) -> dict[str, Any]:
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
