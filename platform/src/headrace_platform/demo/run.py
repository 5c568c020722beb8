"""The story of the demo, phase by phase. Each phase checks what it claims before the next begins."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from headrace_contracts.endpoints import Endpoints
from headrace_platform.demo.checks import Claims
from headrace_platform.demo.customer import Customer
from headrace_platform.demo.result import DemoResult
from headrace_platform.demo.seller import Billing, Document, wait_until_settled

CURRENCY = "USD"
# A price list on which even a tiny model's tokens reach cents, so that the invoice has something to show.
PRICES = {"input_uncached": "300", "cache_read": "60", "cache_write": "300", "output": "900"}
CREDIT = "5.00"
OUTCOME_PRICE = "0.25"

QUESTION = "What is 17+25?"
SUMS = ["What is 12+34?", "What is 56+27?", "Compute 45 + 19.", "What is 81 plus 18?"] * 2
# Beyond the two digits that the model was trained for. It may hit one by luck, hence several.
HARD_QUESTIONS = ["What is 4821+9377?", "What is 75310+86429?", "What is 918273+645546?"]

CHUNKS_BEFORE_HANGING_UP = 20
CHUNKS_BEFORE_THE_KILL = 30


class Stack(Protocol):
    """What the demo needs of a running stack; `headrace_platform.local` has the embedded one."""

    @property
    def state(self) -> Path: ...

    def endpoints(self) -> Endpoints: ...

    def kill_gateway(self) -> None:
        """SIGKILL to every process of the gateway, at once."""

    def start(self) -> Endpoints:
        """Starts whatever is not running, and returns when all is healthy."""

    def keep_api_key(self, secret: str) -> None:
        """Notes the key in `endpoints.json`."""


@dataclass(slots=True)
class Demo:
    stack: Stack
    say: Callable[[str], None]
    result: DemoResult = field(default_factory=DemoResult)
    claims: Claims = field(default_factory=Claims)
    api_key: str | None = None

    def run(self) -> DemoResult:
        """Raises `ClaimFailed` or `BillingRefused` when something does not hold; `result` has what came before."""
        endpoints = self.stack.endpoints()
        with Billing(endpoints.billing_url, endpoints.admin_token) as seller:
            with self.phase("accounts"):
                parties = open_accounts(seller, endpoints.model)
                self.api_key = parties.secret
                self.stack.keep_api_key(parties.secret)
            customer = Customer(endpoints.gateway_url, parties.secret, endpoints.model)
            with self.phase("requests"):
                self.make_requests(
                    customer, Customer(endpoints.gateway_url, parties.poor_secret, endpoints.model)
                )
            with self.phase("outcomes"), Billing(endpoints.billing_url, parties.secret) as buyer:
                self.sell_outcomes(seller, buyer, customer)
            with self.phase("close"):
                self.reconcile(seller, parties)
                self.close(seller, parties, lines={"tokens", "outcome"})
            with self.phase("kill"):
                self.kill_the_gateway(seller, parties, customer)
                self.close(seller, parties, lines={"tokens"})
            with self.phase("books"):
                self.reconcile(seller, parties)
                self.audit(seller)
        self.result.claims = self.claims.seen
        return self.result

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.say(name)
        began = time.monotonic()
        try:
            yield
        finally:
            self.result.seconds[name] = round(time.monotonic() - began, 2)

    def make_requests(self, customer: Customer, poor: Customer) -> None:
        claim = self.claims.that
        claim("the model is listed", customer.model in customer.models())

        plain = customer.ask(QUESTION)
        claim("17+25 is answered with 42", plain.text == "42", saw=plain.text)
        streamed = customer.stream(QUESTION)
        claim("a stream says the same as a plain reply", streamed.text == plain.text, saw=streamed.text)
        claim("a stream ends with its usage", streamed.used.output > 0, saw=streamed.used)

        customer.break_off(after_chunks=CHUNKS_BEFORE_HANGING_UP)
        answers = customer.ask_at_once(SUMS)
        claim(
            "eight requests at once are all answered",
            all(answer.text.isdecimal() for answer in answers),
            saw=answers,
        )
        self.result.requests += 3 + len(SUMS)

        status, error = poor.refused(QUESTION)
        claim("a request that the balance can't pay is refused with 402", status == 402, saw=(status, error))
        claim("the refusal has a stable code", error.get("code") == "insufficient_balance", saw=error)
        claim("the refusal names the limit", error.get("limit") and "ceiling" in error, saw=error)

    def sell_outcomes(self, seller: Billing, buyer: Billing, customer: Customer) -> None:
        seller.post(
            "/v1/outcome-types",
            {
                "name": "arithmetic-answer",
                "criteria": "The answer is the sum that the question asks for.",
                "verifier": "arithmetic@1",
                "price": OUTCOME_PRICE,
                "currency": CURRENCY,
            },
        )
        solved = self.attempt_task(buyer, customer, QUESTION)
        self.claims.that("a right answer is verified", solved["status"] == "verified", saw=solved)
        accepted = buyer.post(f"/v1/outcomes/{solved['id']}/accept", {})
        self.claims.that("the customer accepts it", accepted["status"] == "accepted", saw=accepted)
        self.result.outcomes_accepted += 1

        for question in HARD_QUESTIONS:
            failed = self.attempt_task(buyer, customer, question)
            if failed["status"] == "rejected":
                break
            buyer.post(f"/v1/outcomes/{failed['id']}/accept", {})
            self.result.outcomes_accepted += 1
        self.claims.that("a wrong answer is rejected", failed["status"] == "rejected", saw=failed)
        self.claims.that("evidence of it is kept", failed["evidence"], saw=failed)
        self.result.outcomes_rejected += 1

    def attempt_task(self, buyer: Billing, customer: Customer, question: str) -> Document:
        """Opens a task, has the model answer, and reports that; the outcome, once it is verified or rejected."""
        task = buyer.post("/v1/tasks", {"outcome_type": "arithmetic-answer", "dedupe_key": question})
        answer = customer.ask(question, task=task["id"])
        self.result.requests += 1
        evidence = {"question": question, "answer": answer.text or "(none)", "request_id": answer.request_id}
        outcome = buyer.post(f"/v1/tasks/{task['id']}/outcomes", {"observer": "agent", "evidence": evidence})
        until = time.monotonic() + 20
        while outcome["status"] in {"reported", "verifying"} and time.monotonic() < until:
            time.sleep(0.2)
            outcome = buyer.get(f"/v1/outcomes/{outcome['id']}")
        return outcome

    def kill_the_gateway(self, seller: Billing, parties: "Parties", customer: Customer) -> None:
        request = customer.break_off(after_chunks=CHUNKS_BEFORE_THE_KILL, then=self.stack.kill_gateway)
        self.result.requests += 1
        self.stack.start()
        report = self.reconcile(seller, parties)
        row = next((row for row in report["requests"] if row["request_id"] == request), None)
        self.claims.that(
            "the stream that the gateway died in has a final event", row and row["grade"] == "final", saw=row
        )
        assert row is not None
        self.claims.that(
            "it is billed to the last count that was relayed, and no further than the engine went",
            CHUNKS_BEFORE_THE_KILL - 1 <= row["billed_output"] <= row["engine_output"],
            saw=row,
        )

    def reconcile(self, seller: Billing, parties: "Parties") -> Document:
        report = wait_until_settled(seller, parties.organization, requests=self.result.requests)
        totals = report["totals"]
        claim = self.claims.that
        claim("the reconciliation is green", report["status"] == "green", saw=report.get("reasons"))
        claim("every admitted request is in it", totals["requests"] == self.result.requests, saw=totals)
        named = sum(totals["named_differences"].values())
        claim(
            "engine tokens = billed + named",
            totals["engine_tokens"] == totals["billed_tokens"] + named,
            saw=totals,
        )
        self.result.engine_tokens = totals["engine_tokens"]
        self.result.billed_tokens = totals["billed_tokens"]
        self.result.named_differences = totals["named_differences"]
        self.result.unreconciled = len(report["unreconciled"])
        return report

    def close(self, seller: Billing, parties: "Parties", *, lines: set[str]) -> None:
        invoice = seller.post("/v1/periods/close", {"organization": parties.organization})
        kinds = {line["kind"] for line in invoice["lines"]}
        self.claims.that("the invoice has the lines that it should", lines <= kinds, saw=kinds)
        pdf = seller.download(f"/v1/invoices/{invoice['id']}.pdf")
        self.claims.that("the invoice prints", pdf.startswith(b"%PDF-"), saw=pdf[:20])
        folder = self.stack.state / "invoices"
        folder.mkdir(exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9-]", "-", invoice["number"])
        (folder / f"{name}.pdf").write_bytes(pdf)
        self.result.invoices.append(invoice["number"])
        self.result.invoice_total = str(Decimal(self.result.invoice_total) + Decimal(invoice["total"]))

    def audit(self, seller: Billing) -> None:
        balance = seller.get("/v1/ledger/trial-balance")
        sums = {row["currency"]: row["sum"] for row in balance["currencies"]}
        self.claims.that(
            "the ledger's postings add up to zero", not any(Decimal(s) for s in sums.values()), saw=sums
        )
        self.result.ledger_sum = str(sum(map(Decimal, sums.values()), Decimal(0)))


@dataclass(frozen=True, slots=True)
class Parties:
    organization: str
    project: str
    secret: str
    poor_secret: str


def open_accounts(seller: Billing, model: str) -> Parties:
    """An organisation with a project that has credit and one that has next to none, and a key for each."""
    seller.post("/v1/price-books", {"currency": CURRENCY, "models": {model: PRICES}})
    organization = seller.post("/v1/organizations", {"name": "Millrace Analytics"})["id"]

    def project_with_key(name: str, credit: str) -> tuple[str, str]:
        project = seller.post(
            "/v1/projects",
            {"organization": organization, "name": name, "currency": CURRENCY, "disposition": "prepaid"},
        )["id"]
        seller.post(
            "/v1/credit-grants",
            {"project": project, "amount": credit, "currency": CURRENCY, "kind": "paid", "reason": "demo"},
        )
        return project, seller.post("/v1/keys", {"project": project, "name": f"{name} key"})["secret"]

    project, secret = project_with_key("production", CREDIT)
    _, poor_secret = project_with_key("trial", "0.0001")
    return Parties(organization, project, secret, poor_secret)
