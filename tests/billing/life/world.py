"""All of billing around one customer for a life: the API, the jobs, a Stripe, and a clock; and what the books say."""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2
from sqlalchemy import text

from headrace_billing.app import compose
from headrace_billing.charges.recognising import recognise_over
from headrace_billing.database import Database
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.jobs import finalise_due
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.ledger import store as ledger
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.outcomes.jobs import pass_time
from headrace_billing.parts import Parts
from headrace_billing.payments.access import StripeAccess
from headrace_billing.payments.collecting import dun
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.till import Till
from headrace_billing.plans import jobs as subscriptions
from headrace_billing.rating.jobs import put_into_force
from headrace_billing.reconciliation import books_store
from headrace_billing.reconciliation.books import broken, money_checks
from headrace_billing.reconciliation.report import Scope
from headrace_billing.valkey import connect
from headrace_contracts.usage import Disposition
from tests.billing.clock import Clock
from tests.billing.ingest.usage import Gateway
from tests.billing.outcomes.market import OUTCOME_TYPE
from tests.billing.payments.counter import Counter
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, NOW, Customer, Document, Seller
from tests.support.stripe.account import Account
from tests.support.stripe.server import API_KEY, WEBHOOK_SECRET, FakeStripe, running_stripe

Result = TypeVar("Result")
PLAN = {"version": 1, "currency": "USD", "interval": "month", "seats_max": 10, "seat_price": "9.99"}
DECADES = datetime(2090, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    path: str
    body: object
    headers: Mapping[str, str]
    answer: Document


@dataclass(slots=True)
class World:
    """Everything that a customer's life touches. `ask` remembers the last change that was granted."""

    database: Database
    parts: Parts
    counter: Counter
    fake: FakeStripe
    clock: Clock
    customer: Customer
    afterwards: Customer
    """The project of the same organisation that pays by invoice."""
    gateway: Gateway
    opened: ExitStack
    last: Asked | None = None
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def seller(self) -> Seller:
        return self.counter.seller

    async def ask(self, path: str, body: object, **headers: str) -> Document | None:
        """The answer, or null where it was refused: then nothing may have changed."""
        headers, before = {"idempotency-key": secrets.token_hex(8), **headers}, await self.fingerprint()
        answer = await self.seller.ask("POST", path, body, **headers)
        if answer.is_success:
            document: Document = answer.json()
            self.last = Asked(path, body, headers, document)
            return document
        assert answer.status_code in {400, 402, 403, 404, 409, 422}, answer.text
        code = answer.json()["code"]
        self.refusals[code] = self.refusals.get(code, 0) + 1
        assert await self.fingerprint() == before, f"refused with {code}, and left something behind"
        return None

    async def ask_again(self) -> None:
        """A client whose answer was lost asks once more: the same answer, and nothing more in the books."""
        if self.last is None:
            return
        before = await self.fingerprint()
        answer = await self.seller.ask("POST", self.last.path, self.last.body, **self.last.headers)
        assert answer.is_success, answer.text
        now, then = answer.json(), self.last.answer
        assert now.get("id", now) == then.get("id", then)
        assert await self.fingerprint() == before

    async def work(self) -> None:
        """What the worker does, once over."""
        now = self.clock.now
        await put_into_force(self.database, self.parts.valkey, now=now)
        await pass_time(self.database, self.parts.valkey, now=self.clock)
        while await subscriptions.pass_time(self.database, self.parts.valkey, now=now):
            pass
        await finalise_due(Books(self.database, TaxTable()), now=now)
        await recognise_over(self.database, now=now)
        await expire_lots(self.database, now=now)
        await self.counter.work()
        await dun(self.counter.till, now=now)

    async def fingerprint(self) -> tuple[int, ...]:
        """Of everything that stands for good."""
        async with self.database.begin() as session:
            return tuple((await session.execute(FINGERPRINT)).one())

    async def nanos(self, condition: str) -> int:
        """Sum of the postings that meet it, debit positive: `t` is the transaction, `p` the posting."""
        query = f"""
            SELECT coalesce(sum(p.amount_nanos), 0) FROM ledger_postings p
            JOIN ledger_transactions t ON t.id = p.transaction_id WHERE {condition}
        """  # noqa: S608 - conditions are constants of the tests
        async with self.database.begin() as session:
            return int((await session.execute(text(query))).scalar_one())

    async def must_balance(self) -> None:
        """Every transaction adds up, every projection is its postings', and every book says what the others say."""
        scope = Scope(None, NOW, DECADES)
        async with self.database.snapshot() as session:
            assert set((await ledger.trial_balance(session)).by_currency.values()) <= {0}
            assert await ledger.projections_off(session) == []
            for money in await books_store.money(session, scope):
                assert broken(money_checks(money)) == []

    async def close(self) -> None:
        await self.seller.http.aclose()
        await self.parts.valkey.aclose()
        await self.database.close()
        self.opened.close()


async def begin(database_url: str, valkey_url: str) -> World:
    """A seller with prices and an outcome to sell, and a customer with an empty wallet."""
    opened, clock = ExitStack(), Clock()
    fake = opened.enter_context(running_stripe(Account(now=clock)))
    stripe = Stripe(
        StripeAccess(
            api_key=API_KEY,
            webhook_secrets=(WEBHOOK_SECRET,),
            api_url=fake.url,
            return_url="https://console.example.com/billing",
        )
    )
    opened.callback(stripe.close)
    database, valkey = Database(database_url), connect(valkey_url)
    parts = Parts(
        database=database,
        valkey=valkey,
        admin_token=ADMIN_TOKEN,
        ingest_token=INGEST_TOKEN,
        signing_key=bytes(range(32)),
        stripe=stripe,
        now=clock,
    )
    transport = httpx2.ASGITransport(app=compose(parts))
    http = httpx2.AsyncClient(transport=transport, base_url="http://billing")
    counter = Counter(Seller(http), Till(database, valkey, stripe), clock)
    price_book = await counter.seller.publish_prices()
    await counter.seller.post("/v1/outcome-types", OUTCOME_TYPE)
    for code, price in (("lite", "18.00"), ("pro", "72.01")):
        await counter.seller.post("/v1/plans", {**PLAN, "code": code, "name": code, "price": price})
    customer = await counter.seller.customer(credit=None)
    afterwards = await counter.seller.post(
        "/v1/projects",
        {
            "organization": customer.org,
            "name": "batch",
            "currency": "USD",
            "disposition": Disposition.PAYG,
        },
    )
    key = await counter.seller.post("/v1/keys", {"project": afterwards["id"], "name": "batch"})
    return World(
        database=database,
        parts=parts,
        counter=counter,
        fake=fake,
        clock=clock,
        customer=customer,
        afterwards=Customer(customer.org, afterwards["id"], afterwards["wallet"], key["id"], key["secret"]),
        gateway=Gateway(customer, price_book),
        opened=opened,
    )


class Life:
    """Runs a world's coroutines for rules that are plain functions."""

    def __init__(self, database_url: str, valkey_url: str) -> None:
        self._runner = asyncio.Runner()
        self.world = self.run(begin(database_url, valkey_url))

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(coroutine)

    def end(self) -> None:
        self.run(self.world.close())
        self._runner.close()


FINGERPRINT = text("""
    SELECT (SELECT count(*) FROM ledger_transactions), (SELECT count(*) FROM ledger_postings),
           (SELECT count(*) FROM usage_events), (SELECT count(*) FROM invoices),
           (SELECT count(*) FROM credit_notes), (SELECT count(*) FROM invoice_settlements),
           (SELECT count(*) FROM credit_lots), (SELECT count(*) FROM charges),
           (SELECT count(*) FROM accounting_months), (SELECT count(*) FROM outcomes)
""")
