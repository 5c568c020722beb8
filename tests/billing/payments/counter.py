"""The counter at which customers of the tests pay: billing's API and jobs before a Stripe, and what is in the books after."""

import time
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text

from headrace_billing.ledger import store
from headrace_billing.payments import jobs
from headrace_billing.payments.cards import customer_of
from headrace_billing.payments.disputing import find_unheard
from headrace_billing.payments.till import Till
from tests.billing.clock import Clock
from tests.billing.seller import Customer, Document, Seller
from tests.support.stripe.account import Object
from tests.support.stripe.cards import VISA, Card
from tests.support.stripe.server import WEBHOOK_SECRET, FakeStripe

# What the books say of one top-up of twenty: Stripe's part, and where it went.
PAID_FOR_TWENTY = {"cash_clearing USD": 1912, "psp_fees USD": 88, "wallet_paid USD": -2000}


@dataclass(frozen=True, slots=True)
class Counter:
    seller: Seller
    till: Till
    clock: Clock

    async def customer_in(self, currency: str) -> Customer:
        """With an empty wallet in that currency."""
        customer = await self.seller.customer(credit=None)
        body = {
            "organization": customer.org,
            "name": currency,
            "currency": currency,
            "disposition": "prepaid",
        }
        project = await self.seller.post("/v1/projects", body)
        return replace(customer, project=project["id"], wallet=project["wallet"])

    async def top_up(
        self, customer: Customer, amount: str = "20.00", *, key: str | None = None, **fields: Any
    ) -> Document:
        body = {"wallet": customer.wallet, "amount": amount, "currency": "USD", **fields}
        headers = {} if key is None else {"idempotency-key": key}
        answer = await self.seller.ask("POST", "/v1/top-ups", body, **headers)
        assert answer.is_success, answer.text
        document: Document = answer.json()
        return document

    async def shown(self, top_up: Document) -> Document:
        return await self.seller.get(f"/v1/top-ups/{top_up['id']}")

    async def save_card(self, customer: Customer, card: Card = VISA) -> str:
        """As Stripe's page would; a test account takes its test cards by name."""
        stripe, org = self.till.stripe, customer.org
        params: Any = {"customer": await customer_of(self.till.database, stripe, org)}
        return str(stripe._client.v1.payment_methods.attach(card.method, params).id)

    async def keep_card(self, customer: Customer, card: Card = VISA) -> None:
        """The card pays the organisation's invoices from now on."""
        path = f"/v1/organizations/{customer.org}/default-card"
        answer = await self.seller.ask("PUT", path, {"card": await self.save_card(customer, card)})
        assert answer.is_success, answer.text

    async def paid(self, customer: Customer) -> Document:
        """A top-up of twenty that a saved card has paid."""
        return await self.top_up(customer, card=await self.save_card(customer))

    async def work(self, *, times: int = 1) -> None:
        """What the worker does, once over."""
        for _ in range(times):
            now = self.clock()
            await jobs.start_auto_top_ups(self.till, now=now)
            await jobs.look_at_top_ups(self.till, now=now)
            await jobs.look_at_refunds(self.till, now=now)
            await jobs.look_at_disputes(self.till, now=now)

    async def look_for_disputes(self) -> int:
        return await find_unheard(self.till, now=self.clock())

    async def look_later(self, *, minutes: int = 2) -> None:
        """No webhook came, so the worker looks by itself."""
        self.clock.passes(minutes=minutes)
        await self.work()

    async def deliver(self, fake: FakeStripe, *events: Object) -> None:
        """Webhooks in the order given, or all that there are."""
        for event in events or fake.account.events:
            assert await self.webhook(fake, event) == (200, {"taken": True})

    async def webhook(
        self, fake: FakeStripe, event: Object, *, at: int | None = None, secret: str = WEBHOOK_SECRET
    ) -> tuple[int, Document]:
        body, signature = fake.webhook(event, at=int(time.time()) if at is None else at, secret=secret)
        return await self.post_webhook(body, signature)

    async def post_webhook(self, body: bytes, signature: str) -> tuple[int, Document]:
        answer = await self.seller.http.post(
            "/v1/stripe/webhook",
            content=body,
            headers={"stripe-signature": signature, "content-type": "application/json"},
        )
        return answer.status_code, answer.json()

    async def balances(self) -> dict[str, int]:
        """By `kind currency`, in minor units of two decimals, debit positive; and the books must be sound."""
        async with self.till.database.begin() as session:
            assert await store.rebuild(session) == []
            trial = await store.trial_balance(session)
        assert set(trial.by_currency.values()) <= {0}
        found = {}
        for (currency, kind), nanos in trial.by_account.items():
            minor, rest = divmod(nanos, 10_000_000)
            assert rest == 0, f"{kind}: {nanos}"
            if minor:
                found[f"{kind} {currency}"] = minor
        return found

    async def notices(self) -> list[str]:
        return sorted(notice["kind"] for notice in (await self.seller.get("/v1/notices"))["items"])

    async def count(self, query: str) -> int:
        async with self.till.database.begin() as session:
            return int((await session.execute(text(query))).scalar_one())
