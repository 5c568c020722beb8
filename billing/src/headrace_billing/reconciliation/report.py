"""The report of an organisation's requests and books over a time: green, or every culprit by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headrace_billing.reconciliation.books import Check, Counts
from headrace_billing.reconciliation.documents import CulpritDocument, ReportDocument, SidesDocument
from headrace_billing.reconciliation.request import (
    NO_TOKENS,
    Comparison,
    Difference,
    Reason,
    Status,
    Tokens,
)

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
"""Before the first event that ingest takes."""

UNRECONCILED_MAX = 100
"""Culprits named in one report; the count says how many there are."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose and when: requests received in [start, end); no organisation means all of them."""

    organization: str | None
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Culprit:
    id: str
    reason: Reason
    status: Status
    detail: str

    def document(self) -> CulpritDocument:
        return {"id": self.id, "reason": self.reason, "status": self.status, "detail": self.detail}


@dataclass(slots=True)
class Tally:
    """Sums over requests and findings, as they are read."""

    requests: int = 0
    yielded: Tokens = NO_TOKENS
    billed: Tokens = NO_TOKENS
    unwitnessed_requests: int = 0
    unwitnessed: Tokens = NO_TOKENS
    """Inside `billed`: engines that tell nothing are not compared."""
    named: dict[Difference, Tokens] = field(default_factory=dict)
    reasons: dict[Reason, int] = field(default_factory=dict)
    status: Status = Status.GREEN
    culprits: list[Culprit] = field(default_factory=list)

    def add_matched(self, requests: int, tokens: Tokens) -> None:
        """Requests that were billed exactly what was yielded."""
        self.requests += requests
        self.yielded += tokens
        self.billed += tokens

    def add_unwitnessed(self, requests: int, tokens: Tokens) -> None:
        """Requests to engines that are declared to tell nothing."""
        self.requests += requests
        self.billed += tokens
        self.unwitnessed_requests += requests
        self.unwitnessed += tokens
        if requests:
            self.status = worse(self.status, Status.UNWITNESSED)

    def add(self, comparison: Comparison) -> None:
        if comparison.status is Status.UNWITNESSED:
            self.unwitnessed_requests += 1
            self.unwitnessed += comparison.unwitnessed
            self.status = worse(self.status, Status.UNWITNESSED)
        self.requests += 1
        self.yielded += comparison.yielded
        self.billed += comparison.billed.tokens
        for name, tokens in comparison.differences.items():
            self.named[name] = self.named.get(name, NO_TOKENS) + tokens
        if comparison.reason is not None:
            left = comparison.unexplained
            detail = f"{left.input} input and {left.output} output tokens of the engine are neither billed nor named"
            self.blame(Culprit(comparison.billed.request_id, comparison.reason, comparison.status, detail))

    def add_unbilled(self, name: Difference, tokens: Tokens) -> None:
        """Yielded for no customer's request."""
        if tokens:
            self.yielded += tokens
            self.named[name] = self.named.get(name, NO_TOKENS) + tokens

    def add_lost(self, culprit: Culprit, tokens: Tokens) -> None:
        self.yielded += tokens
        self.blame(culprit)

    def blame(self, culprit: Culprit) -> None:
        self.reasons[culprit.reason] = self.reasons.get(culprit.reason, 0) + 1
        self.status = worse(self.status, culprit.status)
        # Red ones push pending ones out of a full list.
        if len(self.culprits) < UNRECONCILED_MAX:
            self.culprits.append(culprit)
        elif culprit.status is Status.RED:
            pending = next((c for c in self.culprits if c.status is Status.PENDING), None)
            if pending is not None:
                self.culprits[self.culprits.index(pending)] = culprit

    def check(self, checks: Iterable[Check]) -> None:
        for check in checks:
            if not check.holds:
                where = check.name if check.currency is None else f"{check.name} ({check.currency})"
                detail = f"{check.left} is not {check.right}"
                self.blame(Culprit(where, Reason.BOOKS_DIFFER, Status.RED, detail))

    @property
    def unexplained(self) -> Tokens:
        return self.yielded + self.unwitnessed - self.billed - sum(self.named.values(), NO_TOKENS)


@dataclass(frozen=True, slots=True)
class Report:
    scope: Scope
    as_of: datetime
    tally: Tally
    events: Counts
    rollups: Counts
    checks: Sequence[Check]
    ledger_nanos: Mapping[str, int]
    invoice_nanos: Mapping[str, int]

    @property
    def status(self) -> Status:
        return self.tally.status

    def document(self) -> ReportDocument:
        tally = self.tally
        return {
            "organization": self.scope.organization,
            "start": self.scope.start.isoformat(),
            "end": self.scope.end.isoformat(),
            "as_of": self.as_of.isoformat(),
            "status": self.status,
            "reasons": [{"code": code, "count": count} for code, count in tally.reasons.items()],
            "totals": {
                "requests": tally.requests,
                "engine_tokens": tally.yielded.total,
                "billed_tokens": tally.billed.total,
                "named_differences": {name: tokens.total for name, tokens in sorted(tally.named.items())},
                "unwitnessed": {
                    "requests": tally.unwitnessed_requests,
                    "tokens": tally.unwitnessed.total,
                },
                "unexplained_tokens": tally.unexplained.total,
                "by_side": {
                    "engine": sides_document(tally.yielded),
                    "billed": sides_document(tally.billed),
                    "named_differences": {name: sides_document(t) for name, t in sorted(tally.named.items())},
                },
                "events": {"requests": self.events.requests, "tokens": self.events.tokens},
                "rollups": {"requests": self.rollups.requests, "tokens": self.rollups.tokens},
                "ledger_nanos": {currency: str(nanos) for currency, nanos in self.ledger_nanos.items()},
                "invoice_nanos": {currency: str(nanos) for currency, nanos in self.invoice_nanos.items()},
            },
            "checks": [
                {
                    "name": check.name,
                    "currency": check.currency,
                    "left": str(check.left),
                    "right": str(check.right),
                    "holds": check.holds,
                }
                for check in self.checks
            ],
            "unreconciled": [culprit.document() for culprit in tally.culprits],
        }


def worse(one: Status, other: Status) -> Status:
    order = (Status.GREEN, Status.UNWITNESSED, Status.PENDING, Status.RED)
    return max(one, other, key=order.index)


def sides_document(tokens: Tokens) -> SidesDocument:
    return {"input": tokens.input, "output": tokens.output}
