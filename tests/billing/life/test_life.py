"""A customer's whole life, in whatever order it happens: after each step every book says what it must.

The model is what a person with a notebook would keep: what was granted, used, accepted, charged and paid.
"""

from collections.abc import Coroutine
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headrace_billing.invoicing.usage import Span
from headrace_billing.ledger import store as ledger
from headrace_contracts.ingest import EventOutcome
from headrace_contracts.usage import Disposition, Ending, TokenCounts, UsageEvent
from tests.billing.charges.books import charge, put
from tests.billing.ingest.usage import take
from tests.billing.life.world import Life
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Document
from tests.support.postgres import PostgresServer
from tests.support.stripe import world as stripe_world

Result = TypeVar("Result")
G = 10**9
AGREED = {"reason": "agreed"}
NANOS = {"input_uncached": 30_000, "cache_read": 6_000, "output": 90_000}
"""Of one token, by the seller's only price book."""

tokens = st.builds(
    TokenCounts,
    input_uncached=st.integers(0, 200_000),
    cache_read=st.integers(0, 200_000),
    output_visible=st.integers(0, 50_000),
)
dollars = st.integers(1, 40)


def nanos_of(counts: TokenCounts) -> int:
    return (
        counts.input_uncached * NANOS["input_uncached"]
        + counts.cache_read * NANOS["cache_read"]
        + counts.output * NANOS["output"]
    )


def nanos(amount: str) -> int:
    return int(Decimal(amount) * G)


class CustomerLife(RuleBasedStateMachine):
    def __init__(self, server: PostgresServer, template: str, valkey_url: str) -> None:
        super().__init__()
        self.server = server
        self.database_url = server.create_database(template=template)
        self.life = Life(self.database_url, valkey_url)
        self.world = self.life.world
        self.granted = 0
        """All credit that came, less what was paid back or taken back."""
        self.used = {Disposition.PREPAID: 0, Disposition.PAYG: 0}
        self.accepted = 0
        self.charged = 0
        self.subscription: Document | None = None
        self.steps: dict[tuple[str, str], int] = {}
        """What each step of a subscription has charged, by its subscription and version, in nano-units."""
        self.events: list[UsageEvent] = []
        self.lost: list[UsageEvent] = []
        """Final events of requests of which only an estimate is known."""
        self.invoices: dict[str, Document] = {}
        self.taken: dict[str, int] = {}
        """By invoice what was taken off its amount due, in cents."""
        self.months: dict[str, Document] = {}
        self.numbers = 0

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.life.run(coroutine)

    def ask(self, path: str, body: object) -> Document | None:
        return self.run(self.world.ask(path, body))

    def teardown(self) -> None:
        self.run(self._rebuilt())
        self.life.end()
        self.server.drop_database(self.database_url)

    async def _rebuilt(self) -> None:
        async with self.world.database.begin() as session:
            assert await ledger.rebuild(session) == []

    # --- Money in and out.

    @rule(amount=dollars, kind=st.sampled_from(["paid", "promo"]), days=st.none() | st.integers(1, 60))
    def grant(self, amount: int, kind: str, days: int | None) -> None:
        expires_at = None if days is None else (self.world.clock.now + timedelta(days=days)).isoformat()
        body = {
            "wallet": self.world.customer.wallet,
            "amount": f"{amount}.00",
            "currency": "USD",
            "kind": kind,
            "reason": "agreed",
            "expires_at": expires_at,
        }
        if self.ask("/v1/credit-grants", body) is not None:
            self.granted += amount * G

    @rule(part=st.sampled_from([None, "0.50"]), number=st.integers(0, 5))
    def refund(self, part: str | None, number: int) -> None:
        grants = self.run(self.world.seller.get("/v1/credit-grants"))["items"]
        if grants:
            path = f"/v1/credit-grants/{grants[number % len(grants)]['id']}/refund"
            refunded = self.ask(path, {} if part is None else {"amount": part})
            if refunded is not None:
                self.granted -= nanos(refunded["amount"])

    @rule(amount=dollars)
    def top_up_and_pay(self, amount: int) -> None:
        body = {"wallet": self.world.customer.wallet, "amount": f"{amount}.00", "currency": "USD"}
        if self.ask("/v1/top-ups", body) is not None:
            account = self.world.fake.account
            (session,) = account.listed("checkout.session", status="open")
            stripe_world.pay(account, session["id"])
            self.world.clock.passes(minutes=2)
            self.run(self.world.counter.work())
            self.granted += amount * G

    @rule(won=st.none() | st.booleans())
    def dispute(self, won: bool | None) -> None:
        """A customer's bank takes a top-up back, and may give it back."""
        account = self.world.fake.account
        open_ones = account.listed("dispute", status="needs_response")
        charges = [one for one in account.listed("charge") if not one["disputed"]]
        if open_ones and won is not None:
            stripe_world.close_dispute(account, open_ones[0]["id"], won=won)
            if won:
                self.granted += open_ones[0]["amount"] * 10**7
        elif charges:
            stripe_world.dispute(account, charges[0]["payment_intent"])
            self.granted -= charges[0]["amount"] * 10**7
        self.world.clock.passes(days=1, hours=1)
        self.run(self.world.counter.look_for_disputes())
        self.run(self.world.counter.work(times=2))

    # --- Usage.

    @rule(counts=tokens, disposition=st.sampled_from([Disposition.PREPAID, Disposition.PAYG]))
    def use(self, counts: TokenCounts, disposition: Disposition) -> None:
        event = self._event(counts, disposition)
        self._take(event)
        self.run(tell(self.world.database, yielded(event)))

    @precondition(lambda self: not self.lost)
    @rule(counts=tokens, guessed=tokens)
    def crash(self, counts: TokenCounts, guessed: TokenCounts) -> None:
        """The gateway dies; what its reaper estimates is billed until the final event comes."""
        final = self._event(counts, Disposition.PREPAID, ending=Ending.GATEWAY_LOST)
        estimate = self.world.gateway.estimate(final.id, tokens=guessed, received_at=self.world.clock.now)
        self._take(estimate)
        self.run(tell(self.world.database, yielded(final)))
        self.lost.append(final)

    @precondition(lambda self: self.lost)
    @rule()
    def come_back(self) -> None:
        """However late."""
        final = self.lost.pop(0)
        (estimate,) = (event for event in self.events if event.id == final.id)
        self.used[estimate.disposition] -= nanos_of(estimate.tokens)
        self._take(final)

    @precondition(lambda self: self.events)
    @rule(number=st.integers(0, 50))
    def tell_again(self, number: int) -> None:
        before = self.run(self.world.fingerprint())
        ingested = self.run(take(self.world.database, self.events[number % len(self.events)]))
        assert {one.outcome for one in ingested.verdicts} <= {EventOutcome.DUPLICATE}
        assert self.run(self.world.fingerprint()) == before

    @rule()
    def solve(self) -> None:
        """A task whose outcome the customer accepts."""
        body = {"outcome_type": "arithmetic-answer", "dedupe_key": f"What is 17+{len(self.events)}?"}
        task = self._as_customer("/v1/tasks", body)
        if task is None:
            return
        event = self._event(TokenCounts(input_uncached=10), Disposition.OUTCOME_BUNDLED, task=task["id"])
        self.run(take(self.world.database, event))
        self.run(tell(self.world.database, yielded(event)))
        evidence = {
            "question": body["dedupe_key"],
            "answer": str(17 + len(self.events)),
            "request_id": event.id,
        }
        outcome = self._as_customer(
            f"/v1/tasks/{task['id']}/outcomes", {"observer": "agent", "evidence": evidence}
        )
        assert outcome is not None
        assert self._as_customer(f"/v1/outcomes/{outcome['id']}/accept", {}) is not None
        self.accepted += G // 4

    def _as_customer(self, path: str, body: object) -> Document | None:
        buyer = type(self.world.seller)(self.world.seller.http, self.world.customer.secret)
        answer = self.run(buyer.ask("POST", path, body))
        return answer.json() if answer.is_success else None

    def _event(self, counts: TokenCounts, disposition: Disposition, **fields: Any) -> UsageEvent:
        payer = self.world.afterwards if disposition is Disposition.PAYG else self.world.customer
        return self.world.gateway.event(
            tokens=counts,
            disposition=disposition,
            received_at=self.world.clock.now,
            project=payer.project,
            key=payer.key,
            wallet=payer.wallet,
            **fields,
        )

    def _take(self, event: UsageEvent) -> None:
        ingested = self.run(take(self.world.database, event))
        assert [one.outcome for one in ingested.verdicts] == [EventOutcome.ACCEPTED], ingested.verdicts
        self.used[event.disposition] += nanos_of(event.tokens)
        self.events.append(event)

    # --- Charges for times.

    @rule(cents=st.integers(-500, 5_000).filter(bool), days=st.integers(1, 90))
    def charge(self, cents: int, days: int) -> None:
        now = self.world.clock.now
        fee = charge(
            self.world,
            reference=f"fee {now.isoformat()} {self.charged}",
            amount_nanos=cents * 10**7,
            span=Span(now, now + timedelta(days=days)),
        )
        self.run(put(self.world, fee))
        self.charged += cents * 10**7

    # --- A subscription.

    @rule(plan=st.sampled_from(["plan_lite_1", "plan_pro_1"]), seats=st.integers(1, 3))
    def subscribe(self, plan: str, seats: int) -> None:
        body = {"organization": self.world.customer.org, "plan": plan, "seats": seats}
        found = self.ask("/v1/subscriptions", body)
        if found is not None:
            self.subscription = found

    @precondition(lambda self: self.subscription)
    @rule(
        plan=st.sampled_from(["plan_lite_1", "plan_pro_1"]),
        seats=st.integers(1, 3),
        when=st.sampled_from([None, "now", "period_end"]),
    )
    def change_plan(self, plan: str, seats: int, when: str | None) -> None:
        self._step("change", {"plan": plan, "seats": seats, "when": when})

    @precondition(lambda self: self.subscription)
    @rule(
        what=st.sampled_from(["pause", "cancel"]),
        when=st.sampled_from(["now", "period_end"]),
        give_rest_back=st.booleans(),
    )
    def stop_plan(self, what: str, when: str, give_rest_back: bool) -> None:
        self._step(what, {"when": when, "give_rest_back": give_rest_back})

    @precondition(lambda self: self.subscription)
    @rule(what=st.sampled_from(["resume", "undo"]))
    def go_on_with_plan(self, what: str) -> None:
        self._step(what, {})

    def _step(self, what: str, body: Document) -> None:
        assert self.subscription is not None
        path = f"/v1/subscriptions/{self.subscription['id']}"
        version = self.run(self.world.seller.get(path))["version"]
        self.run(self.world.ask(f"{path}/{what}", body, **{"if-match": str(version)}))

    # --- Invoices and what becomes of them.

    @rule()
    def close_period(self) -> None:
        self.world.clock.passes(minutes=1)
        self._issued(
            self.ask("/v1/periods/close", {"organization": self.world.customer.org, "currency": "USD"})
        )

    @rule()
    def run_invoices(self) -> None:
        body = {"end": self.world.clock.now.isoformat(), "grace_hours": 0}
        if self.ask("/v1/invoice-runs", body) is not None:
            self.world.clock.passes(minutes=1)
            self.run(self.world.work())

    def _issued(self, invoice: Document | None) -> None:
        if invoice is not None:
            self.invoices[invoice["id"]] = invoice

    @precondition(lambda self: self.invoices)
    @rule(number=st.integers(0, 5), cents=st.integers(1, 5_000))
    def pay(self, number: int, cents: int) -> None:
        invoice = self._pick(number)
        body = {
            "amount": f"{cents / 100:.2f}",
            "currency": "USD",
            "reference": "bank transfer",
            "paid_at": self.world.clock.now.isoformat(),
        }
        self.ask(f"/v1/invoices/{invoice['id']}/payments", body)

    @precondition(lambda self: self.invoices)
    @rule(number=st.integers(0, 5), how=st.sampled_from(["credit-notes", "void", "write-offs"]))
    def give_up(self, number: int, how: str) -> None:
        self.ask(f"/v1/invoices/{self._pick(number)['id']}/{how}", AGREED)

    @precondition(lambda self: self.invoices)
    @rule(number=st.integers(0, 5), position=st.integers(1, 4), cents=st.integers(1, 300))
    def credit_part(self, number: int, position: int, cents: int) -> None:
        lines = [{"position": position, "amount": f"{cents / 100:.2f}"}]
        self.ask(f"/v1/invoices/{self._pick(number)['id']}/credit-notes", {**AGREED, "lines": lines})

    def _pick(self, number: int) -> Document:
        return list(self.invoices.values())[number % len(self.invoices)]

    # --- Time, the worker, and clients that ask again.

    @rule(hours=st.sampled_from([1, 24 * 9, 24 * 31]))
    def pass_time(self, hours: int) -> None:
        self.world.clock.passes(hours=hours)
        self.run(self.world.work())

    @rule()
    def close_month(self) -> None:
        closed = [datetime.fromisoformat(f"{month}-01") for month in self.months]
        month = (max(closed) + timedelta(days=31)).strftime("%Y-%m") if closed else "2026-11"
        self.world.clock.passes(days=1)
        found = self.ask(
            f"/v1/accounting-months/{month}/close", {"requested_by": "Ada", "approved_by": "Grace"}
        )
        if found is not None:
            self.months[month] = found

    @rule()
    def ask_again(self) -> None:
        self.run(self.world.ask_again())

    @rule(
        bad=st.sampled_from(
            [
                {"amount": "-5.00"},
                {"amount": "1e30"},
                {"amount": "0.0000000000001"},
                {"currency": "QQQ"},
                {"currency": "EUR"},
                {"expires_at": "2001-01-01T00:00:00Z"},
                {"kind": "imaginary"},
            ]
        )
    )
    def ask_for_nonsense(self, bad: Document) -> None:
        body = {
            "wallet": self.world.customer.wallet,
            "amount": "5.00",
            "currency": "USD",
            "kind": "paid",
            "reason": "nonsense",
            **bad,
        }
        assert self.ask("/v1/credit-grants", body) is None

    # --- What holds after each step.

    @invariant()
    def every_book_says_what_the_others_say(self) -> None:
        self.run(self.world.must_balance())

    @invariant()
    def the_books_are_those_of_the_notebook(self) -> None:
        posted = self.run(self.world.nanos("t.kind = 'usage' AND p.kind = 'unbilled'"))
        assert posted == sum(self.used.values())
        charged = self.run(self.world.nanos("t.kind = 'charge' AND p.kind = 'unbilled'"))
        assert charged == self.charged + self._charged_by_steps()
        prepaid = "p.kind IN ('wallet_paid', 'wallet_promo', 'overdraft', 'outcome_reserved')"
        credit = -self.run(self.world.nanos(prepaid))
        gone = self.run(self.world.nanos(f"{prepaid} AND t.kind = 'credit_expired'"))
        back = -self.run(self.world.nanos(f"{prepaid} AND t.kind = 'credit_note'"))
        assert credit == self.granted - self.used[Disposition.PREPAID] - self.accepted - gone + back

    def _charged_by_steps(self) -> int:
        """As the API tells them; it tells the latest, so they are noted."""
        for one in self.run(self.world.seller.get("/v1/subscriptions"))["items"]:
            shown = self.run(self.world.seller.get(f"/v1/subscriptions/{one['id']}"))
            for step in shown["steps"]:
                total = sum(nanos(line["amount"]) for line in step["lines"])
                assert self.steps.setdefault((one["id"], step["version"]), total) == total
        return sum(self.steps.values())

    @invariant()
    def what_was_issued_stays_and_follows_on(self) -> None:
        shown = self.run(self.world.seller.get("/v1/invoices"))["items"]
        assert sorted(one["number"] for one in shown) == [f"HR-{n:06d}" for n in range(1, len(shown) + 1)]
        open_cents = 0
        for one in shown:
            now = self.run(self.world.seller.get(f"/v1/invoices/{one['id']}"))
            standing = now.pop("standing")
            before = self.invoices.setdefault(one["id"], now)
            assert {**before, "standing": None} == {**now, "standing": None}
            parts = ("paid", "credited", "written_off", "open")
            assert sum(Decimal(standing[part]) for part in parts) == Decimal(standing["due"])
            open_cents += int(Decimal(standing["open"]) * 100)
        receivable = self.run(self.world.nanos("p.kind = 'receivable'"))
        assert receivable == open_cents * 10**7

    @invariant()
    def a_closed_month_stays_as_it_was(self) -> None:
        for month, closed in self.months.items():
            end = (datetime.fromisoformat(f"{month}-01") + timedelta(days=32)).strftime("%Y-%m-01T00:00:00Z")
            now = self.run(self.world.seller.get(f"/v1/ledger/trial-balance?at={end}"))
            assert {name: now[name] for name in closed["trial_balance"]} == closed["trial_balance"]


def test_whatever_happens_in_a_customers_life_the_books_agree(
    postgres_server: PostgresServer, migrated_template: str, valkey_url: str
) -> None:
    def fresh() -> CustomerLife:
        return CustomerLife(postgres_server, migrated_template, valkey_url)

    machine: Any = fresh
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=6,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
