"""Stripe's objects as `money_seen` has them: only what we decide by is read, and currencies become upper case."""

from datetime import UTC, datetime
from typing import Any

import stripe

from headrace_billing.payments.money_seen import (
    CardSeen,
    CheckoutSeen,
    CheckoutStatus,
    DisputeSeen,
    PaymentSeen,
    RefundSeen,
    Settlement,
)
from headrace_billing.payments.reconciliation import Booked


def checkout_seen(session: Any) -> CheckoutSeen:
    payment, setup = session.payment_intent, session.setup_intent
    return CheckoutSeen(
        id=session.id,
        status=CheckoutStatus(session.status),
        paid=session.payment_status == "paid",
        reference=session.client_reference_id,
        amount_minor=session.amount_total,
        currency=(session.currency or "").upper(),
        url=session.url,
        payment=payment_seen(payment) if isinstance(payment, stripe.PaymentIntent) else None,
        card=id_of(setup.payment_method) if isinstance(setup, stripe.SetupIntent) else None,
    )


def payment_seen(intent: Any) -> PaymentSeen:
    charge = intent.latest_charge
    booked = charge.balance_transaction if isinstance(charge, stripe.Charge) else None
    refused = intent.last_payment_error
    return PaymentSeen(
        id=intent.id,
        status=intent.status,
        amount_minor=intent.amount_received,
        currency=intent.currency.upper(),
        reference=_of(intent.metadata, "top_up"),
        refusal=_of(refused, "decline_code") or _of(refused, "code"),
        authenticate_url=_of(_of(intent.next_action, "redirect_to_url"), "url"),
        settlement=settlement_seen(booked),
        card=id_of(_of(intent, "payment_method")),
    )


def card_seen(method: Any) -> CardSeen:
    card = method.card
    return CardSeen(
        id=method.id,
        customer=id_of(method.customer),
        brand=card.brand,
        last4=card.last4,
        expires=f"{card.exp_year:04d}-{card.exp_month:02d}",
    )


def refund_seen(refund: Any) -> RefundSeen:
    return RefundSeen(
        id=refund.id,
        status=refund.status,
        reference=_of(refund.metadata, "refund"),
        settlement=settlement_seen(refund.balance_transaction),
        returned=settlement_seen(getattr(refund, "failure_balance_transaction", None)),
    )


def dispute_seen(dispute: Any) -> DisputeSeen:
    return DisputeSeen(
        id=dispute.id,
        payment=id_of(dispute.payment_intent),
        status=dispute.status,
        reason=dispute.reason,
        amount_minor=dispute.amount,
        currency=dispute.currency.upper(),
        created=dispute.created,
        settlements=tuple(
            settled for each in dispute.balance_transactions if (settled := settlement_seen(each)) is not None
        ),
    )


def settlement_seen(booked: Any) -> Settlement | None:
    """Null also for one that is only an id: it was not asked for."""
    if not isinstance(booked, stripe.BalanceTransaction):
        return None
    return Settlement(booked.id, booked.amount, booked.fee, booked.currency.upper())


def booked(transaction: Any) -> Booked:
    return Booked(
        id=transaction.id,
        kind=transaction.type,
        amount_minor=transaction.amount,
        fee_minor=transaction.fee,
        currency=transaction.currency.upper(),
        payment=id_of(_of(transaction.source, "payment_intent")),
        booked_at=datetime.fromtimestamp(transaction.created, UTC),
    )


def id_of(thing: Any) -> str | None:
    """Of an object that Stripe shows whole or by its id."""
    return thing if thing is None or isinstance(thing, str) else str(thing.id)


def _of(thing: Any, name: str) -> Any:
    """Stripe leaves out what does not apply, and nulls what is empty."""
    return None if thing is None else getattr(thing, name, None)
