"""One Stripe account: its objects, and what its API does with them."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.stripe.cards import TEST_CARDS, Card

Object = dict[str, Any]

FEE_FIXED_MINOR = 30
FEE_PER_MILLE = 29
SESSION_SECONDS_MIN, SESSION_SECONDS_MAX = 30 * 60, 24 * 3600
AMOUNT_MINOR_MIN = 50
THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})


class Refused(Exception):
    """An error reply of Stripe."""

    def __init__(self, status: int, **error: Any) -> None:
        super().__init__(error.get("message", ""))
        self.status, self.error = status, {"type": "invalid_request_error", **error}


@dataclass
class Account:
    now: Callable[[], datetime]
    settles_in: str | None = None
    """The account's own currency, where charges are converted; null settles each in its own."""
    exchange_per_mille: int = 900
    fees_come_late: bool = False
    """A charge's balance transaction is not there at once, as with some ways to pay."""
    objects: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    cards: dict[str, Card] = field(default_factory=dict)
    """By payment method."""
    tax_registrations: frozenset[str] = frozenset({"DE", "FR", "US"})
    """Countries that the account has told Stripe Tax to collect in."""
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    # --- customers and cards

    def create_customer(self, params: Object) -> Object:
        return self.new("cus", "customer", metadata=params.get("metadata", {}), name=params.get("name"))

    def attach(self, test_card: str, params: Object) -> Object:
        """One of Stripe's test cards, by its name; a payment method that exists is attached by its page."""
        card = next(each for each in TEST_CARDS if each.method == test_card)
        self.get(params["customer"])
        return self.save(params["customer"], card)

    def save(self, customer: str | None, card: Card) -> Object:
        method = self.new("pm", "payment_method", type="card", customer=customer)
        method["card"] = {"brand": "visa", "last4": card.last4, "exp_month": 12, "exp_year": 2034}
        self.cards[method["id"]] = card
        return method

    def detach(self, method_id: str) -> Object:
        method = self.get(method_id)
        if method["customer"] is None:
            raise Refused(400, message="The payment method is attached to no customer.")
        method["customer"] = None
        return method

    # --- Checkout

    def create_session(self, params: Object) -> Object:
        expires_at = int(params.get("expires_at", self.time() + SESSION_SECONDS_MAX))
        if not SESSION_SECONDS_MIN <= expires_at - self.time() <= SESSION_SECONDS_MAX:
            raise Refused(400, param="expires_at", message="expires_at must be 30 minutes to 24 hours away.")
        self.get(params["customer"])
        session: Object = {
            "mode": params["mode"],
            "status": "open",
            "client_reference_id": params.get("client_reference_id"),
            "customer": params["customer"],
            "expires_at": expires_at,
            "metadata": params.get("metadata", {}),
            "payment_method_types": params["payment_method_types"],
            "payment_intent": None,
            "setup_intent": None,
            "amount_total": None,
            "currency": params.get("currency"),
            "payment_status": "no_payment_required",
        }
        if params["mode"] == "payment":
            (line,) = params["line_items"]
            price, payment = line["price_data"], params.get("payment_intent_data", {})
            amount = int(price["unit_amount"]) * int(line["quantity"])
            self._check_amount(amount, price["currency"])
            session |= {"amount_total": amount, "currency": price["currency"], "payment_status": "unpaid"}
            session["save_card"] = payment.get("setup_future_usage") == "off_session"
            session["pi_metadata"] = payment.get("metadata", {})
        if params["payment_method_types"] == ["customer_balance"]:
            transfer = params["payment_method_options"]["customer_balance"]
            assert transfer["funding_type"] == "bank_transfer" == transfer["bank_transfer"]["type"][3:]
        made = self.new("cs_test", "checkout.session", **session)
        made["url"] = f"https://checkout.stripe.com/c/pay/{made['id']}"
        return made

    def expire_session(self, session_id: str) -> Object:
        session = self.get(session_id)
        if session["status"] != "open":
            raise Refused(400, message=f"Only open sessions can be expired; it is {session['status']}.")
        session |= {"status": "expired", "url": None}
        self.tell("checkout.session.expired", session)
        return session

    def pass_time(self) -> None:
        """What expires by itself has expired."""
        for session in self.listed("checkout.session", status="open"):
            if session["expires_at"] <= self.time():
                self.expire_session(session["id"])

    # --- payment intents

    def create_payment_intent(self, params: Object) -> Object:
        """Confirmed at once and off-session: the only way in which it is created here."""
        if params.get("confirm") != "true" or params.get("off_session") != "true":
            raise Refused(400, message="This stand-in makes off-session payment intents only.")
        self._check_amount(int(params["amount"]), params["currency"])
        method = params["payment_method"]
        if self.get(method)["customer"] != params["customer"]:
            raise Refused(400, message="The payment method belongs to another customer.")
        intent = self.intent(int(params["amount"]), params["currency"], params.get("metadata", {}))
        intent |= {"customer": params["customer"], "payment_method": method}
        if self.cards[method].off_session_needs_authentication:
            self.decline(intent, "authentication_required", code="authentication_required")
        self.charge(intent, self.cards[method])
        return intent

    def confirm_payment_intent(self, intent_id: str, params: Object) -> Object:
        """With the customer at hand, who may have to authenticate."""
        intent = self.get(intent_id)
        if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
            raise Refused(400, code="payment_intent_unexpected_state", message=f"It is {intent['status']}.")
        card = self.cards[params["payment_method"]]
        intent |= {"payment_method": params["payment_method"], "last_payment_error": None}
        if card.off_session_needs_authentication:
            url = f"https://hooks.stripe.com/redirect/authenticate/{intent_id}"
            intent["status"] = "requires_action"
            intent["next_action"] = {
                "type": "redirect_to_url",
                "redirect_to_url": {"url": url, "return_url": params["return_url"]},
            }
            self.tell("payment_intent.requires_action", intent)
            return intent
        self.charge(intent, card)
        return intent

    def cancel_payment_intent(self, intent_id: str) -> Object:
        intent = self.get(intent_id)
        if intent["status"] in ("succeeded", "canceled", "processing"):
            raise Refused(400, code="payment_intent_unexpected_state", message=f"It is {intent['status']}.")
        intent |= {"status": "canceled", "next_action": None}
        self.tell("payment_intent.canceled", intent)
        return intent

    # --- refunds

    def create_refund(self, params: Object) -> Object:
        intent = self.get(params["payment_intent"])
        charge = self.get(intent["latest_charge"])
        amount = int(params.get("amount", charge["amount"] - charge["amount_refunded"]))
        if charge["disputed"]:
            raise Refused(400, code="charge_disputed", message="The charge is disputed.")
        if amount > charge["amount"] - charge["amount_refunded"]:
            raise Refused(400, code="charge_already_refunded", message="More than is left of the charge.")
        charge["amount_refunded"] += amount
        refund = self.new(
            "re",
            "refund",
            amount=amount,
            currency=charge["currency"],
            charge=charge["id"],
            payment_intent=intent["id"],
            status="succeeded",
            metadata=params.get("metadata", {}),
            failure_reason=None,
            failure_balance_transaction=None,
        )
        refund["balance_transaction"] = self.settle(
            -amount, charge["currency"], source=refund["id"], kind="refund"
        )["id"]
        self.tell("refund.created", refund)
        return refund

    # --- reading

    def get(self, object_id: str) -> Object:
        if object_id not in self.objects:
            raise Refused(404, code="resource_missing", message=f"No such object: {object_id}")
        return self.objects[object_id]

    def listed(self, kind: str, **fields: str) -> list[Object]:
        """Newest first, as every list of Stripe's."""
        found = [o for o in self.objects.values() if o["object"] == kind]
        return [o for o in reversed(found) if all(o.get(name) == value for name, value in fields.items())]

    # --- how it is done

    def intent(self, amount: int, currency: str, metadata: Object) -> Object:
        return self.new(
            "pi",
            "payment_intent",
            amount=amount,
            amount_received=0,
            currency=currency,
            status="processing",
            latest_charge=None,
            metadata=metadata,
            last_payment_error=None,
            next_action=None,
        )

    def charge(self, intent: Object, card: Card | None) -> None:
        if card is not None and card.decline is not None:
            self.decline(intent, card.decline, code="card_declined")
        charge = self.new(
            "ch",
            "charge",
            amount=intent["amount"],
            amount_refunded=0,
            currency=intent["currency"],
            payment_intent=intent["id"],
            paid=True,
            disputed=False,
            balance_transaction=None,
        )
        if not self.fees_come_late:
            charge["balance_transaction"] = self.settle_charge(charge)["id"]
        intent |= {
            "status": "succeeded",
            "latest_charge": charge["id"],
            "amount_received": intent["amount"],
            "next_action": None,
        }
        self.tell("payment_intent.succeeded", intent)

    def decline(self, intent: Object, decline: str, *, code: str) -> None:
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = {"code": code, "decline_code": decline}
        self.tell("payment_intent.payment_failed", intent)
        raise Refused(
            402,
            type="card_error",
            code=code,
            decline_code=decline,
            message="The card was declined.",
            payment_intent=copy.deepcopy(intent),
        )

    def settle_charge(self, charge: Object) -> Object:
        fee = charge["amount"] * FEE_PER_MILLE // 1000 + FEE_FIXED_MINOR
        return self.settle(charge["amount"], charge["currency"], source=charge["id"], kind="charge", fee=fee)

    def settle(self, amount: int, currency: str, *, source: str, kind: str, fee: int = 0) -> Object:
        rate = None
        if self.settles_in not in (None, currency):
            amount, fee = (each * self.exchange_per_mille // 1000 for each in (amount, fee))
            currency, rate = str(self.settles_in), self.exchange_per_mille / 1000
        return self.new(
            "txn",
            "balance_transaction",
            amount=amount,
            currency=currency,
            fee=fee,
            net=amount - fee,
            source=source,
            type=kind,
            exchange_rate=rate,
            status="pending",
        )

    def new(self, prefix: str, kind: str, **fields: Any) -> Object:
        made = {"id": f"{prefix}_{next(self.numbers):024d}", "object": kind, "created": self.time(), **fields}
        self.objects[made["id"]] = made
        return made

    def tell(self, kind: str, about: Object) -> None:
        self.events.append(
            {
                "id": f"evt_{next(self.numbers):024d}",
                "object": "event",
                "type": kind,
                "created": self.time(),
                "livemode": False,
                "data": {"object": copy.deepcopy(about)},
            }
        )

    def time(self) -> int:
        return int(self.now().timestamp())

    def _check_amount(self, amount: int, currency: str) -> None:
        if amount < AMOUNT_MINOR_MIN:
            raise Refused(400, code="amount_too_small", message="Below the least amount that can be charged.")
        if currency in THREE_DECIMALS and amount % 10:
            raise Refused(400, code="parameter_invalid_integer", message="The last digit must be 0.")
