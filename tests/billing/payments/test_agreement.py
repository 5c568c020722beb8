"""Whatever customers, banks and networks do, in whatever order: at the end both books agree, and so does the wallet."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from headrace_billing.payments.reconciling import reconcile_payments
from tests.billing.payments.counter import Counter
from tests.billing.seller import Customer, Seller
from tests.support.stripe import world
from tests.support.stripe.account import Account, Object
from tests.support.stripe.cards import ALWAYS_AUTHENTICATES, DECLINED, VISA
from tests.support.stripe.server import FakeStripe, Fault

STEPS = 50


@dataclass
class Walk:
    """What may happen next is drawn; what can't happen now does nothing."""

    counter: Counter
    fake: FakeStripe
    customer: Customer
    chance: random.Random
    cards: list[str] = field(default_factory=list)

    @property
    def account(self) -> Account:
        return self.fake.account

    async def something(self) -> None:
        if self.chance.random() < 0.2:
            self.fake.fail_next(self.chance.choice([Fault.BUSY, Fault.BROKEN, Fault.SILENT]))
        acts: list[Callable[[], Awaitable[None]]] = [
            self.top_up,
            self.top_up,
            self.pay,
            self.pay,
            self.refund,
            self.dispute,
            self.decide,
            self.send_back,
            self.deliver,
            self.deliver,
            self.work,
            self.work,
        ]
        await self.chance.choice(acts)()

    async def top_up(self) -> None:
        body = {"wallet": self.customer.wallet, "amount": "20.00", "currency": "USD"}
        await self.counter.seller.ask(
            "POST", "/v1/top-ups", body | self.chance.choice([{}, {"card": self.chance.choice(self.cards)}])
        )

    async def pay(self) -> None:
        """Where somebody was given the address."""
        known = {item["url"] for item in (await self.counter.seller.get("/v1/top-ups"))["items"]}
        for session in self.account.listed("checkout.session", status="open"):
            if session["expires_at"] > self.account.time() and session["url"] in known:
                world.pay(self.account, session["id"])
                return
        for intent in self.account.listed("payment_intent", status="requires_action"):
            world.authenticate(self.account, intent["id"], passes=self.chance.random() < 0.7)

    async def refund(self) -> None:
        paid = [t for t in (await self.counter.seller.get("/v1/top-ups"))["items"] if t["state"] == "paid"]
        if paid:
            body = self.chance.choice([{}, {"amount": "7.00"}])
            path = f"/v1/top-ups/{self.chance.choice(paid)['id']}/refunds"
            await self.counter.seller.ask("POST", path, body)

    async def dispute(self) -> None:
        charges = [c for c in self.charges() if not c["disputed"] and not c["amount_refunded"]]
        if charges:
            charge = self.chance.choice(charges)
            world.dispute(self.account, charge["payment_intent"])

    async def decide(self) -> None:
        waiting = self.account.listed("dispute", status="needs_response")
        if waiting:
            world.close_dispute(
                self.account, self.chance.choice(waiting)["id"], won=self.chance.random() < 0.5
            )

    async def send_back(self) -> None:
        refunds = self.account.listed("refund", status="succeeded")
        if refunds and self.chance.random() < 0.5:
            world.fail_refund(self.account, self.chance.choice(refunds)["id"])

    async def deliver(self) -> None:
        """Some of the webhooks, some of them again, in no order."""
        events = self.account.events
        for event in self.chance.choices(events, k=min(5, len(events))):
            assert (await self.counter.webhook(self.fake, event))[0] == 200

    async def work(self) -> None:
        self.counter.clock.passes(minutes=self.chance.choice([0, 1, 5]))
        await self.counter.work()

    def charges(self) -> list[Object]:
        return self.account.listed("charge")

    async def settle_down(self) -> None:
        """Stripe answers again, and the worker has looked at everything once more."""
        self.fake.faults.clear()
        for _ in range(3):
            self.counter.clock.passes(days=1, hours=1)
            await self.counter.look_for_disputes()
            await self.counter.work(times=4)

    def money_that_stayed(self) -> int:
        """Charged, less what was paid back and what banks hold: by Stripe's own books, without its fees."""
        return sum(int(each["amount"]) for each in self.account.listed("balance_transaction"))


@pytest.mark.parametrize("seed", range(3))
async def test_both_books_agree_whatever_happens(
    counter: Counter, fake: FakeStripe, seller: Seller, customer: Customer, seed: int
) -> None:
    walk = Walk(counter, fake, customer, random.Random(seed))
    for card in (VISA, DECLINED, ALWAYS_AUTHENTICATES):
        walk.cards.append(await counter.save_card(customer, card))
    for _ in range(STEPS):
        await walk.something()
    await walk.settle_down()
    assert len(walk.charges()) > 2
    await counter.balances()
    wallet = await seller.get(f"/v1/wallets/{customer.wallet}")
    assert wallet["balance"] == f"{walk.money_that_stayed() / 100:.2f}"
    assert await reconcile_payments(counter.till, now=counter.clock()) == 0
    assert (await seller.get("/v1/reconciliation/payments"))["status"] == "green"
