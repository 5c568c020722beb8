"""The one place that speaks to Stripe, through its SDK. Answers are `money_seen`, failures are `access`'s.

The SDK never repeats a request: each is repeated by whoever wants it, with the same idempotency key, and only after
our own note of the intent is durable. Calls block, so they run in threads.
"""

from collections.abc import Sequence
from typing import Any

import requests
import stripe

from headrace_billing.payments.access import PaymentDeclined, StripeAccess
from headrace_billing.payments.money_seen import (
    CardSeen,
    CheckoutSeen,
    DisputeSeen,
    PaymentSeen,
    RefundSeen,
)
from headrace_billing.payments.reconciliation import Booked
from headrace_billing.payments.stripe_calls import ask, pages
from headrace_billing.payments.stripe_views import (
    booked,
    card_seen,
    checkout_seen,
    dispute_seen,
    payment_seen,
    refund_seen,
)
from headrace_billing.payments.tax_calls import TaxCalls

# A charge may take a bank some seconds; a caller of ours waits for one call at most.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
EXPAND_PAYMENT = "latest_charge.balance_transaction"
EXPAND_REFUND: Sequence[str] = ("balance_transaction", "failure_balance_transaction")

# Whose bank account Stripe names to whoever pays by transfer. Any country of SEPA reaches a German one.
BANK_TRANSFERS: dict[str, dict[str, Any]] = {
    "USD": {"type": "us_bank_transfer"},
    "GBP": {"type": "gb_bank_transfer"},
    "JPY": {"type": "jp_bank_transfer"},
    "EUR": {"type": "eu_bank_transfer", "eu_bank_transfer": {"country": "DE"}},
}


class Stripe:
    def __init__(self, access: StripeAccess) -> None:
        self.access = access
        self._session = requests.Session()
        self._client = stripe.StripeClient(
            access.api_key,
            base_addresses={"api": access.api_url.rstrip("/")},
            max_network_retries=0,
            http_client=stripe.RequestsClient(
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS), session=self._session
            ),
        )
        self.tax = TaxCalls(self._client)

    def close(self) -> None:
        self._session.close()

    # --- customers and their cards

    async def open_customer(self, *, org: str, name: str) -> str:
        """Asked again after Stripe forgot the key it makes another, which nobody then uses."""
        params: Any = {"name": name, "metadata": {"organization": org}}
        options: Any = {"idempotency_key": f"{org}:customer"}
        customer = await ask(lambda: self._client.v1.customers.create(params, options))
        return str(customer.id)

    async def open_card_page(self, *, customer: str, key: str) -> str:
        """The address of Stripe's page that takes a card for later; without a charge, and authenticated at once."""
        params: Any = {
            "mode": "setup",
            "customer": customer,
            "payment_method_types": ["card"],
            "success_url": self.access.return_url,
            "cancel_url": self.access.return_url,
        }
        options: Any = {"idempotency_key": f"{customer}:{key}"}
        session = await ask(lambda: self._client.v1.checkout.sessions.create(params, options))
        return str(session.url)

    async def cards(self, customer: str) -> list[CardSeen]:
        methods = self._client.v1.customers.payment_methods
        found = await pages(lambda asked: methods.list(customer, asked), {"type": "card"})
        return [card_seen(each) for each in found]

    async def card(self, card: str) -> CardSeen:
        """Raises `PaymentRefused` where there is none such."""
        return card_seen(await ask(lambda: self._client.v1.payment_methods.retrieve(card)))

    async def forget_card(self, card: str) -> None:
        await ask(lambda: self._client.v1.payment_methods.detach(card))

    # --- paying on Stripe's page

    async def open_checkout(
        self,
        *,
        reference: str,
        customer: str,
        amount_minor: int,
        currency: str,
        name: str,
        expires_at: int,
        save_card: bool,
        bank_transfer: bool,
    ) -> CheckoutSeen:
        """The same reference is the same session, however often it is asked for within Stripe's 24 hours."""
        payment: dict[str, Any] = {"metadata": {"top_up": reference}}
        if save_card:
            payment["setup_future_usage"] = "off_session"
        price = {
            "currency": currency.lower(),
            "unit_amount": amount_minor,
            "product_data": {"name": name},
        }
        params: Any = {
            "mode": "payment",
            "customer": customer,
            "client_reference_id": reference,
            "expires_at": expires_at,
            "success_url": self.access.return_url,
            "cancel_url": self.access.return_url,
            "metadata": {"top_up": reference},
            "payment_intent_data": payment,
            "line_items": [{"quantity": 1, "price_data": price}],
            "payment_method_types": ["customer_balance" if bank_transfer else "card"],
        }
        if bank_transfer:
            transfer = BANK_TRANSFERS[currency]
            params["payment_method_options"] = {
                "customer_balance": {"funding_type": "bank_transfer", "bank_transfer": transfer}
            }
        options: Any = {"idempotency_key": f"{reference}:checkout"}
        return checkout_seen(await ask(lambda: self._client.v1.checkout.sessions.create(params, options)))

    async def open_setup(self, *, reference: str, customer: str, expires_at: int) -> CheckoutSeen:
        """Takes a card for what is to be paid later. The same reference is the same session, as above."""
        params: Any = {
            "mode": "setup",
            "customer": customer,
            "client_reference_id": reference,
            "expires_at": expires_at,
            "success_url": self.access.return_url,
            "cancel_url": self.access.return_url,
            "payment_method_types": ["card"],
            "metadata": {"top_up": reference},
        }
        options: Any = {"idempotency_key": f"{reference}:checkout"}
        return checkout_seen(await ask(lambda: self._client.v1.checkout.sessions.create(params, options)))

    async def checkout(self, session: str) -> CheckoutSeen:
        params: Any = {"expand": [f"payment_intent.{EXPAND_PAYMENT}", "setup_intent"]}
        return checkout_seen(await ask(lambda: self._client.v1.checkout.sessions.retrieve(session, params)))

    async def expire_checkout(self, session: str) -> None:
        """Raises `PaymentRefused` where it is not open any more."""
        await ask(lambda: self._client.v1.checkout.sessions.expire(session))

    # --- charging a saved card

    async def charge(
        self, *, reference: str, customer: str, card: str, amount_minor: int, currency: str
    ) -> PaymentSeen:
        """Without the customer. A bank's no is a payment seen, too. Raises `PaymentRefused` where there is none."""
        params: Any = {
            "amount": amount_minor,
            "currency": currency.lower(),
            "customer": customer,
            "payment_method": card,
            "payment_method_types": ["card"],
            "confirm": True,
            "off_session": True,
            "metadata": {"top_up": reference},
            "expand": [EXPAND_PAYMENT],
        }
        options: Any = {"idempotency_key": f"{reference}:charge"}
        try:
            return payment_seen(await ask(lambda: self._client.v1.payment_intents.create(params, options)))
        except PaymentDeclined as declined:
            if declined.payment is None:
                raise
            return await self.payment(declined.payment)

    async def ask_to_authenticate(self, *, reference: str, payment: str, card: str) -> PaymentSeen:
        """The same payment once more, with the customer at hand: Stripe then says where they prove who they are."""
        params: Any = {
            "payment_method": card,
            "return_url": self.access.return_url,
            "expand": [EXPAND_PAYMENT],
        }
        options: Any = {"idempotency_key": f"{reference}:authenticate"}
        try:
            return payment_seen(
                await ask(lambda: self._client.v1.payment_intents.confirm(payment, params, options))
            )
        except PaymentDeclined:
            return await self.payment(payment)

    async def payment(self, payment: str) -> PaymentSeen:
        params: Any = {"expand": [EXPAND_PAYMENT]}
        return payment_seen(await ask(lambda: self._client.v1.payment_intents.retrieve(payment, params)))

    async def payment_by_reference(self, *, reference: str, customer: str, since: int) -> PaymentSeen | None:
        """For a charge whose answer never came, and whose key Stripe has forgotten."""
        params = {"customer": customer, "created": {"gte": since}}
        found = await pages(self._client.v1.payment_intents.list, params)
        ours = (each for each in map(payment_seen, found) if each.reference == reference)
        first = next(ours, None)
        return None if first is None else await self.payment(first.id)

    async def cancel_payment(self, payment: str) -> None:
        """Raises `PaymentRefused` where it is too late."""
        await ask(lambda: self._client.v1.payment_intents.cancel(payment))

    # --- what follows a payment

    async def refund(self, *, reference: str, payment: str, amount_minor: int) -> RefundSeen:
        params: Any = {
            "payment_intent": payment,
            "amount": amount_minor,
            "metadata": {"refund": reference},
            "expand": EXPAND_REFUND,
        }
        options: Any = {"idempotency_key": f"{reference}:refund"}
        return refund_seen(await ask(lambda: self._client.v1.refunds.create(params, options)))

    async def refund_seen(self, refund: str) -> RefundSeen:
        params: Any = {"expand": EXPAND_REFUND}
        return refund_seen(await ask(lambda: self._client.v1.refunds.retrieve(refund, params)))

    async def refund_by_reference(self, *, reference: str, payment: str) -> RefundSeen | None:
        """For a refund whose answer never came."""
        params = {"payment_intent": payment, "expand": [f"data.{each}" for each in EXPAND_REFUND]}
        found = await pages(self._client.v1.refunds.list, params)
        ours = (each for each in map(refund_seen, found) if each.reference == reference)
        return next(ours, None)

    async def dispute(self, dispute: str) -> DisputeSeen:
        return dispute_seen(await ask(lambda: self._client.v1.disputes.retrieve(dispute)))

    async def disputes(self, *, since: int) -> list[DisputeSeen]:
        """Newest first."""
        found = await pages(self._client.v1.disputes.list, {"created": {"gte": since}})
        return [dispute_seen(each) for each in found]

    # --- Stripe's own books

    async def balance_transactions(self, *, since: int) -> list[Booked]:
        """Newest first."""
        params = {"created": {"gte": since}, "expand": ["data.source"]}
        return [booked(each) for each in await pages(self._client.v1.balance_transactions.list, params)]

    async def balance_transaction(self, transaction: str) -> Booked:
        """Raises `PaymentRefused` where there is none such."""
        params: Any = {"expand": ["source"]}
        return booked(await ask(lambda: self._client.v1.balance_transactions.retrieve(transaction, params)))


def connected(access: StripeAccess | None) -> Stripe | None:
    return None if access is None else Stripe(access)
