"""What customers, banks and time do to an account: whatever the API itself can't be asked for."""

from typing import Any

from tests.support.stripe.account import Account, Object, Refused
from tests.support.stripe.cards import VISA, Card

DISPUTE_FEE_MINOR = 1500


def pay(account: Account, session_id: str, card: Card = VISA, **otherwise: Any) -> Object:
    """The customer fills in the form. `otherwise` sets fields as a broken or hostile world might."""
    session = account.get(session_id)
    if session["status"] != "open" or session["expires_at"] <= account.time():
        raise Refused(400, message="The session is not open.")
    if session["payment_method_types"] == ["customer_balance"]:
        intent = account.intent(session["amount_total"], session["currency"], session["pi_metadata"])
        intent |= {"status": "requires_action", "customer": session["customer"]}
        intent["next_action"] = {"type": "display_bank_transfer_instructions"}
        session |= {"status": "complete", "url": None, "payment_intent": intent["id"]}
    elif session["mode"] == "setup":
        method = account.save(session["customer"], card)
        intent = account.new("seti", "setup_intent", status="succeeded", payment_method=method["id"])
        session |= {"status": "complete", "url": None, "setup_intent": intent["id"]}
    else:
        kept = session["customer"] if session["save_card"] else None
        intent = account.intent(session["amount_total"], session["currency"], session["pi_metadata"])
        session["payment_intent"] = intent["id"]
        intent |= {"customer": session["customer"], "payment_method": account.save(kept, card)["id"]}
        account.charge(intent, card)
        session |= {"status": "complete", "url": None, "payment_status": "paid"}
    session |= otherwise
    account.tell("checkout.session.completed", session)
    return session


def transfer_arrives(account: Account, session_id: str) -> None:
    session = account.get(session_id)
    account.charge(account.get(session["payment_intent"]), None)
    session["payment_status"] = "paid"
    account.tell("checkout.session.async_payment_succeeded", session)


def authenticate(account: Account, intent_id: str, *, passes: bool = True) -> None:
    """The customer follows the link to the bank."""
    intent = account.get(intent_id)
    assert intent["status"] == "requires_action", intent["status"]
    if passes:
        account.charge(intent, None)
    else:
        code = "payment_intent_authentication_failure"
        intent |= {"status": "requires_payment_method", "next_action": None}
        intent["last_payment_error"] = {"code": code}
        account.tell("payment_intent.payment_failed", intent)


def fees_arrive(account: Account) -> None:
    for charge in account.listed("charge"):
        if charge["balance_transaction"] is None and charge["paid"]:
            charge["balance_transaction"] = account.settle_charge(charge)["id"]
            account.tell("charge.updated", charge)


def fail_refund(account: Account, refund_id: str) -> None:
    """The bank sends the money back."""
    refund = account.get(refund_id)
    refund |= {"status": "failed", "failure_reason": "lost_or_stolen_card"}
    account.get(refund["charge"])["amount_refunded"] -= refund["amount"]
    refund["failure_balance_transaction"] = account.settle(
        refund["amount"], refund["currency"], source=refund["id"], kind="refund_failure"
    )["id"]
    account.tell("refund.failed", refund)


def inquire(account: Account, intent_id: str) -> Object:
    """The bank asks what the payment was, and leaves the money for now."""
    charge = account.get(account.get(intent_id)["latest_charge"])
    dispute = account.new(
        "dp",
        "dispute",
        amount=charge["amount"],
        currency=charge["currency"],
        charge=charge["id"],
        payment_intent=intent_id,
        status="warning_needs_response",
        reason="fraudulent",
        balance_transactions=[],
    )
    account.tell("charge.dispute.created", dispute)
    return dispute


def dispute(account: Account, intent_id: str) -> Object:
    """The cardholder goes to the bank: the money is gone at once, and a fee with it."""
    made = inquire(account, intent_id)
    account.events.pop()
    account.get(made["charge"])["disputed"] = True
    made["status"] = "needs_response"
    taken = account.settle(
        -made["amount"], made["currency"], source=made["id"], kind="adjustment", fee=DISPUTE_FEE_MINOR
    )
    made["balance_transactions"].append(taken)
    account.tell("charge.dispute.created", made)
    return made


def close_dispute(account: Account, dispute_id: str, *, won: bool) -> None:
    made = account.get(dispute_id)
    if not made["balance_transactions"]:
        made["status"] = "warning_closed"
        account.tell("charge.dispute.closed", made)
        return
    made["status"] = "won" if won else "lost"
    if won:
        back = account.settle(
            made["amount"], made["currency"], source=dispute_id, kind="adjustment", fee=-DISPUTE_FEE_MINOR
        )
        made["balance_transactions"].append(back)
        account.tell("charge.dispute.funds_reinstated", made)
    account.tell("charge.dispute.closed", made)
