"""The verdict on a run, from its facts alone: nothing lost, doubled, overspent or leaked, and a revoked key revoked.

It takes the engine's word for what was served and counts limits by itself, so it shares no code with what it judges.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from headrace_contracts.usage import Ending, Grade
from tests.chaos.facts import Customer, Event, Facts, Served
from tests.chaos.schedule import Kind

MINUTE_US = 60_000_000
NANOS_A_MICRO = 1000

EXCUSED = {
    Ending.CLIENT_GONE: "after_hangup",
    Ending.UPSTREAM_FAILED: "after_hangup",
    Ending.TIMED_OUT: "after_hangup",
    Ending.BUDGET_STOPPED: "after_budget",
    Ending.GATEWAY_LOST: "estimate_gap",
}
"""Why an engine may have yielded more than is billed. A request that went to its end has no excuse."""


FORGETTING = frozenset((Kind.VALKEY_ERASED,))
"""After which an idempotency key is as good as new."""


class Wrong(StrEnum):
    LOST = "lost"
    DOUBLED = "doubled"
    OVERSPENT = "overspent"
    LEAKED = "leaked"


@dataclass(frozen=True, slots=True)
class Finding:
    wrong: Wrong
    subject: str
    """A request's id where there is one, else an account or a place."""
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    findings: Sequence[Finding]
    differences: Mapping[str, int]
    """Tokens that the engine yielded and nobody is billed for, by the name of their reason."""

    def count(self, wrong: Wrong) -> int:
        return sum(finding.wrong is wrong for finding in self.findings)

    @property
    def clean(self) -> bool:
        return not self.findings


def judge(facts: Facts) -> Verdict:
    billed = effective(facts.events)
    differences: dict[str, int] = defaultdict(int)
    findings = [
        *_requests(facts, billed, differences),
        *_answers(facts, billed),
        *_repeats(facts, billed),
        *_books(facts, billed),
        *_limits(facts, billed),
        *_revocations(facts),
        *_leaks(facts),
    ]
    return Verdict(findings, dict(differences))


def effective(events: Iterable[Event]) -> dict[str, Event]:
    """What counts of each request: its final event, else its estimate."""
    found: dict[str, Event] = {}
    for event in sorted(events, key=lambda event: event.grade):
        found[event.id] = event
    return found


def _requests(facts: Facts, billed: Mapping[str, Event], differences: dict[str, int]) -> Iterator[Finding]:
    """Engine = billed + named differences, request by request."""
    attempts: dict[str, list[Served]] = defaultdict(list)
    for served in facts.served:
        attempts[served.request].append(served)
    for request, tried in attempts.items():
        event = billed.get(request)
        if event is None:
            yield Finding(Wrong.LOST, request, "the engine served it and there is no event")
            continue
        relayed = [served for served in tried if served.number == event.attempts]
        differences["abandoned_attempt"] += sum(
            served.prompt + served.output for served in tried if served not in relayed
        )
        yield from _relayed(event, relayed, differences)
    for event in billed.values():
        if event.id not in attempts and event.input + event.output:
            yield Finding(Wrong.DOUBLED, event.id, "billed, and the engine never saw it")


def _relayed(event: Event, relayed: Sequence[Served], differences: dict[str, int]) -> Iterator[Finding]:
    prompt, output = sum(s.prompt for s in relayed), sum(s.output for s in relayed)
    told = f"engine {prompt} + {output}, billed {event.input} + {event.output}, {event.ending}"
    if event.input > prompt or event.output > output:
        yield Finding(Wrong.DOUBLED, event.id, f"billed more than was served: {told}")
    gap = max(0, prompt - event.input) + max(0, output - event.output)
    if not gap:
        return
    reason = "estimate_gap" if event.grade is Grade.ESTIMATED else EXCUSED.get(event.ending)
    if reason is None:
        yield Finding(Wrong.LOST, event.id, f"billed less than was served: {told}")
    else:
        differences[reason] += gap
    if event.grade is Grade.ESTIMATED:
        yield Finding(Wrong.LOST, event.id, f"estimated and never made final: {told}")


def _answers(facts: Facts, billed: Mapping[str, Event]) -> Iterator[Finding]:
    """Whoever got a whole answer is billed for just that, even if the gateway died the moment after."""
    for reply in facts.replies:
        if reply.tokens is None or reply.request is None:
            continue
        event = billed.get(reply.request)
        if event is None:
            yield Finding(Wrong.LOST, reply.request, "its client got a whole answer and there is no event")
        elif event.output != reply.tokens:
            wrong = Wrong.LOST if event.output < reply.tokens else Wrong.DOUBLED
            detail = f"its client got {reply.tokens} tokens, billed are {event.output}, {event.ending}"
            yield Finding(wrong, reply.request, detail)


def _repeats(facts: Facts, billed: Mapping[str, Event]) -> Iterator[Finding]:
    """Whoever asks again with an idempotency key pays once, unless the claim went with a gateway's life or Valkey's memory."""
    keyed = {reply.visit for reply in facts.replies if reply.has_key}
    asked: dict[int, set[str]] = defaultdict(set)
    for served in facts.served:
        event = billed.get(served.request)
        if served.visit in keyed and event is not None and event.cost_nanos:
            asked[served.visit].add(served.request)
    reaped = {event.id for event in facts.events if event.grade is Grade.ESTIMATED}
    for visit, requests in asked.items():
        events = sorted((billed[request] for request in requests), key=lambda event: event.received_at_us)
        for first, second in pairwise(events):
            died = first.ending is Ending.GATEWAY_LOST or first.id in reaped
            forgotten = any(
                fault.kind in FORGETTING
                and fault.began_at_us < second.received_at_us
                and fault.lifted_at_us > first.received_at_us
                for fault in facts.befallen
            )
            if not died and not forgotten:
                detail = f"visit {visit} was charged with the same key for {first.id}, {first.ending}"
                yield Finding(Wrong.DOUBLED, second.id, detail)


def _books(facts: Facts, billed: Mapping[str, Event]) -> Iterator[Finding]:
    for request in facts.conflicts:
        yield Finding(Wrong.DOUBLED, request, "two events of one grade that differ")
    for reason in facts.quarantined:
        yield Finding(Wrong.LOST, "quarantine", reason)
    for journal in facts.journal_gaps:
        yield Finding(Wrong.LOST, journal, "its sequence has a gap")
    owed: dict[str, int] = defaultdict(int)
    for event in billed.values():
        owed[event.org] += event.cost_nanos
    for org in owed.keys() | facts.posted_nanos.keys():
        posted = facts.posted_nanos.get(org, 0)
        if posted != owed[org]:
            wrong = Wrong.LOST if posted < owed[org] else Wrong.DOUBLED
            yield Finding(wrong, org, f"events cost {owed[org]}, the ledger has {posted} nano-units")
    if facts.rollup_requests is not None and facts.rollup_requests != len(billed):
        wrong = Wrong.LOST if facts.rollup_requests < len(billed) else Wrong.DOUBLED
        yield Finding(wrong, "rollups", f"{len(billed)} requests, {facts.rollup_requests} in the rollups")
    if facts.reconciliation == "red":
        yield Finding(Wrong.LOST, "reconciliation", "; ".join(facts.reconciliation_reasons))


def _limits(facts: Facts, billed: Mapping[str, Event]) -> Iterator[Finding]:
    for overdraft in facts.overdrafts:
        detail = f"overdrawn by {overdraft.nanos} nano-units in batch {overdraft.batch}"
        yield Finding(Wrong.OVERSPENT, overdraft.wallet, detail)
    for customer in facts.customers:
        for key in customer.keys:
            admitted = sorted(
                (event for event in billed.values() if event.key == key),
                key=lambda event: event.received_at_us,
            )
            yield from _key_limits(customer, key, admitted, facts)


def _key_limits(customer: Customer, key: str, admitted: Sequence[Event], facts: Facts) -> Iterator[Finding]:
    if customer.budget_micros is not None:
        spent = sum(event.cost_nanos for event in admitted)
        if spent > customer.budget_micros * NANOS_A_MICRO:
            yield Finding(
                Wrong.OVERSPENT, key, f"spent {spent} nano-units of {customer.budget_micros} micro-units"
            )
    if customer.window_requests is not None and customer.window_seconds is not None:
        windows: dict[int, int] = defaultdict(int)
        for event in admitted:
            windows[event.received_at_us // (customer.window_seconds * 1_000_000)] += 1
        for number, count in windows.items():
            if count > customer.window_requests:
                detail = f"{count} requests of {customer.window_requests} in window {number}"
                yield Finding(Wrong.OVERSPENT, key, detail)
    if customer.requests_per_minute is not None:
        erased = [b.lifted_at_us for b in facts.befallen if b.kind is Kind.VALKEY_ERASED]
        yield from _bucket(key, customer.requests_per_minute, admitted, erased)
    if customer.concurrency is not None:
        yield from _at_once(key, customer.concurrency, admitted, facts)


def _bucket(key: str, a_minute: int, admitted: Sequence[Event], erased: Sequence[int]) -> Iterator[Finding]:
    """A bucket of a minute's requests that refills evenly; an erased Valkey forgets rates, and only those."""
    full = a_minute * MINUTE_US
    level, at = full, 0
    for event in admitted:
        if any(at < moment <= event.received_at_us for moment in erased):
            level = full
        level = min(full, level + (event.received_at_us - at) * a_minute) - MINUTE_US
        at = event.received_at_us
        # The bucket counts in whole milliseconds.
        if level < -a_minute * 1000:
            yield Finding(Wrong.OVERSPENT, event.id, f"{key}: past {a_minute} requests a minute")
            level = 0


def _at_once(key: str, at_most: int, admitted: Sequence[Event], facts: Facts) -> Iterator[Finding]:
    """How many the engine ran at once. A request that was settled or reaped is over, though the engine hears later."""
    ended: dict[str, int] = {}
    for event in facts.events:
        ended[event.id] = min(event.finished_at_us, ended.get(event.id, event.finished_at_us))
    ids = {event.id for event in admitted}
    spans: dict[str, tuple[int, int]] = {}
    for served in facts.served:
        if served.request in ids:
            over = min(served.ended_at_us or ended[served.request], ended[served.request])
            began, until = spans.get(served.request, (served.began_at_us, over))
            spans[served.request] = (min(began, served.began_at_us), max(until, over))
    steps: list[tuple[int, int, str]] = []
    for request, (began, until) in spans.items():
        if began < until:
            steps += [(began, 1, request), (until, -1, request)]
    running = 0
    for _, step, request in sorted(steps, key=lambda each: (each[0], each[1])):
        running += step
        if step > 0 and running > at_most:
            yield Finding(Wrong.OVERSPENT, request, f"{key}: {running} at once, {at_most} are allowed")


def _revocations(facts: Facts) -> Iterator[Finding]:
    for event in facts.events:
        revoked_at_us = facts.revoked_at_us.get(event.key)
        if revoked_at_us is not None and event.received_at_us > revoked_at_us:
            late = event.received_at_us - revoked_at_us
            yield Finding(Wrong.OVERSPENT, event.id, f"{event.key} was revoked {late} µs before")


def _leaks(facts: Facts) -> Iterator[Finding]:
    for what in facts.unrest:
        yield Finding(Wrong.LEAKED, "at rest", what)
    for request in facts.leases:
        yield Finding(Wrong.LEAKED, request, "its lease still stands")
    for gauge, count in facts.gauges.items():
        yield Finding(Wrong.LEAKED, gauge, f"counts {count} where nothing runs")
    for left in facts.left_in_state:
        yield Finding(Wrong.LEAKED, left, "left behind by a clean end")
    for wallet in facts.wallets:
        if wallet.held_micros:
            yield Finding(Wrong.LEAKED, wallet.id, f"{wallet.held_micros} micro-units are still held")
        if wallet.pending_micros or wallet.pending_ids:
            ids = ", ".join(wallet.pending_ids[:5])
            yield Finding(Wrong.LEAKED, wallet.id, f"{wallet.pending_micros} micro-units are pending: {ids}")
        if wallet.balance_micros != wallet.balance_nanos // NANOS_A_MICRO:
            detail = f"Valkey has {wallet.balance_micros} micro-units, the ledger {wallet.balance_nanos} nano-units"
            yield Finding(Wrong.LEAKED, wallet.id, detail)
