"""The audit catches what it is there to catch: each test doctors one fact of a run in which all was well."""

from dataclasses import replace
from typing import Any

import pytest

from headrace_contracts.usage import Ending, Grade
from tests.chaos.audit import Finding, Wrong, judge
from tests.chaos.facts import Befallen, Customer, Event, Facts, Overdraft, Reply, Served, Wallet
from tests.chaos.schedule import Kind, Role

SECOND = 1_000_000
BEGAN = 1_790_000_000 * SECOND
# Seven prompt tokens, three of them cached, and five of output at the run's prices.
COST = 4 * 10_000 + 3 * 2_000 + 5 * 30_000


def served(number: int, **changes: Any) -> Served:
    fields: dict[str, Any] = {
        "attempt": f"r{number}.1",
        "visit": number,
        "prompt": 7,
        "output": 5,
        "ending": "finished",
        "began_at_us": BEGAN + number * SECOND,
        "ended_at_us": BEGAN + number * SECOND + SECOND // 2,
    }
    return Served(**(fields | changes))


def event(number: int, **changes: Any) -> Event:
    fields: dict[str, Any] = {
        "id": f"r{number}",
        "grade": Grade.FINAL,
        "ending": Ending.COMPLETED,
        "key": "key_1",
        "wallet": "wal_1",
        "org": "org_1",
        "attempts": 1,
        "input": 7,
        "output": 5,
        "cost_nanos": COST,
        "received_at_us": BEGAN + number * SECOND - 1000,
        "finished_at_us": BEGAN + number * SECOND + SECOND // 2,
    }
    return Event(**(fields | changes))


def reply(number: int, **changes: Any) -> Reply:
    fields: dict[str, Any] = {
        "visit": number,
        "gateway": 0,
        "sent_at_us": BEGAN + number * SECOND - 2000,
        "request": f"r{number}",
        "status": 200,
        "tokens": 5,
        "how": "whole",
    }
    return Reply(**(fields | changes))


def customer(**limits: Any) -> Customer:
    return Customer(role=Role.AMPLE, org="org_1", wallet="wal_1", keys=["key_1"], **limits)


NUMBERS = range(1, 5)
WALLET = Wallet(
    id="wal_1",
    balance_nanos=10**9 - 4 * COST,
    balance_micros=(10**9 - 4 * COST) // 1000,
    held_micros=0,
    pending_micros=0,
)
WELL = Facts(
    served=[served(n) for n in NUMBERS],
    events=[event(n) for n in NUMBERS],
    replies=[reply(n) for n in NUMBERS],
    customers=[customer(concurrency=1, budget_micros=4 * COST // 1000, requests_per_minute=4)],
    wallets=[WALLET],
    posted_nanos={"org_1": 4 * COST},
    rollup_requests=4,
)


def found(facts: Facts) -> list[tuple[Wrong, str]]:
    return [(finding.wrong, finding.subject) for finding in judge(facts).findings]


def without(number: int) -> list[Event]:
    return [one for one in WELL.events if one.id != f"r{number}"]


def test_a_run_in_which_all_was_well_is_clean() -> None:
    assert judge(WELL).findings == []


def test_an_event_that_is_nowhere_is_lost_to_the_engine_and_to_its_client() -> None:
    facts = replace(WELL, events=without(2), posted_nanos={"org_1": 3 * COST}, rollup_requests=3)
    assert found(facts) == [(Wrong.LOST, "r2"), (Wrong.LOST, "r2")]


def test_an_event_that_the_ledger_does_not_have_is_lost() -> None:
    assert found(replace(WELL, posted_nanos={"org_1": 3 * COST})) == [(Wrong.LOST, "org_1")]
    assert found(replace(WELL, posted_nanos={})) == [(Wrong.LOST, "org_1")]


def test_an_event_that_the_ledger_has_twice_is_doubled() -> None:
    facts = replace(WELL, posted_nanos={"org_1": 5 * COST}, rollup_requests=5)
    assert found(facts) == [(Wrong.DOUBLED, "org_1"), (Wrong.DOUBLED, "rollups")]


def test_two_finals_of_one_request_that_differ_are_doubled() -> None:
    assert found(replace(WELL, conflicts=["r3"])) == [(Wrong.DOUBLED, "r3")]


def test_more_billed_than_the_engine_yielded_is_doubled() -> None:
    facts = replace(WELL, served=[served(1, output=4), *WELL.served[1:]])
    assert found(facts) == [(Wrong.DOUBLED, "r1")]
    assert found(replace(WELL, served=WELL.served[1:])) == [(Wrong.DOUBLED, "r1")]


def test_two_charges_for_one_idempotency_key_are_doubled_unless_its_claim_was_lost_in_between() -> None:
    asked_again = [reply(1, has_key=True), reply(2, visit=1, has_key=True), *WELL.replies[2:]]
    twice = replace(WELL, replies=asked_again, served=[served(1), served(2, visit=1), *WELL.served[2:]])
    assert found(twice) == [(Wrong.DOUBLED, "r2")]
    died = [event(1, ending=Ending.GATEWAY_LOST), *WELL.events[1:]]
    assert found(replace(twice, events=died)) == []
    erased = Befallen(
        number=1,
        kind=Kind.VALKEY_ERASED,
        target="valkey",
        began_at_us=BEGAN + SECOND,
        lifted_at_us=BEGAN + SECOND + 1000,
    )
    assert found(replace(twice, befallen=[erased])) == []
    before = replace(erased, began_at_us=BEGAN, lifted_at_us=BEGAN + 1000)
    assert found(replace(twice, befallen=[before])) == [(Wrong.DOUBLED, "r2")]
    without_key = [replace(each, has_key=False) for each in asked_again]
    assert found(replace(twice, replies=without_key)) == []


def test_less_billed_than_yielded_needs_a_reason() -> None:
    longer = replace(WELL, served=[served(1, output=9), *WELL.served[1:]])
    assert found(longer) == [(Wrong.LOST, "r1")]
    gone = replace(
        longer,
        events=[event(1, ending=Ending.CLIENT_GONE), *WELL.events[1:]],
        replies=[reply(1, tokens=None, how="hung up"), *WELL.replies[1:]],
    )
    verdict = judge(gone)
    assert verdict.clean
    assert verdict.differences["after_hangup"] == 4


def test_an_attempt_that_another_replaced_is_named_and_nobodys_bill() -> None:
    facts = replace(
        WELL,
        served=[*WELL.served, served(1, attempt="r1.2")],
        events=[event(1, attempts=2), *WELL.events[1:]],
    )
    verdict = judge(facts)
    assert verdict.clean
    assert verdict.differences["abandoned_attempt"] == 12


def test_an_estimate_that_stays_below_what_was_yielded_is_lost_when_its_gateway_lives() -> None:
    estimate = event(1, grade=Grade.ESTIMATED, ending=Ending.GATEWAY_LOST, output=2)
    facts = replace(
        WELL,
        events=[estimate, *WELL.events[1:]],
        replies=[reply(1, tokens=None, how="broken off"), *WELL.replies[1:]],
    )
    assert found(facts) == [(Wrong.LOST, "r1")]
    finished = replace(facts, events=[estimate, *WELL.events])
    assert found(finished) == []


def test_a_whole_answer_that_is_billed_short_is_lost() -> None:
    short = event(1, ending=Ending.GATEWAY_LOST, output=3)
    assert found(replace(WELL, events=[short, *WELL.events[1:]])) == [(Wrong.LOST, "r1")]


def test_gaps_and_quarantine_are_losses() -> None:
    facts = replace(WELL, journal_gaps=["gate-a-0:boot"], quarantined=["undecodable"])
    assert found(facts) == [(Wrong.LOST, "quarantine"), (Wrong.LOST, "gate-a-0:boot")]


def test_a_wallet_that_was_ever_overdrawn_is_overspent() -> None:
    overdraft = Overdraft(wallet="wal_1", nanos=1, batch=3, posted_at_us=BEGAN)
    assert found(replace(WELL, overdrafts=[overdraft])) == [(Wrong.OVERSPENT, "wal_1")]


@pytest.mark.parametrize(
    ("limits", "subject"),
    [
        ({"budget_micros": 4 * COST // 1000 - 1}, "key_1"),
        ({"requests_per_minute": 3}, "r4"),
        ({"window_requests": 3, "window_seconds": 3600}, "key_1"),
    ],
)
def test_limits_are_counted_from_outside(limits: dict[str, int], subject: str) -> None:
    assert found(replace(WELL, customers=[customer(**limits)])) == [(Wrong.OVERSPENT, subject)]


def test_more_at_once_than_allowed_is_overspent_unless_the_first_was_reaped() -> None:
    long = served(1, ended_at_us=BEGAN + 2 * SECOND + SECOND // 4, ending="aborted")
    late = event(1, finished_at_us=BEGAN + 2 * SECOND + SECOND // 4)
    facts = replace(WELL, served=[long, *WELL.served[1:]], events=[late, *WELL.events[1:]])
    assert found(facts) == [(Wrong.OVERSPENT, "r2")]
    reaped = event(
        1, grade=Grade.ESTIMATED, ending=Ending.GATEWAY_LOST, finished_at_us=BEGAN + 2 * SECOND - 5000
    )
    assert found(replace(facts, events=[reaped, *facts.events])) == []


def test_only_rates_may_be_forgotten_with_an_erased_valkey() -> None:
    erased = Befallen(
        number=1,
        kind=Kind.VALKEY_ERASED,
        target="valkey",
        began_at_us=BEGAN + 3 * SECOND,
        lifted_at_us=BEGAN + 3 * SECOND + SECOND // 2,
    )
    paced = replace(WELL, customers=[customer(requests_per_minute=3)], befallen=[erased])
    assert found(paced) == []
    capped = replace(paced, customers=[customer(budget_micros=COST // 1000)])
    assert found(capped) == [(Wrong.OVERSPENT, "key_1")]


def test_a_key_that_is_admitted_after_its_revocation_is_found() -> None:
    assert found(replace(WELL, revoked_at_us={"key_1": BEGAN + 4 * SECOND})) == []
    assert found(replace(WELL, revoked_at_us={"key_1": BEGAN + 3 * SECOND})) == [(Wrong.OVERSPENT, "r4")]


def test_what_is_still_held_pending_or_leased_has_leaked() -> None:
    wallet = replace(WALLET, held_micros=5, pending_micros=7, pending_ids=["r9"])
    facts = replace(
        WELL,
        wallets=[wallet],
        leases=["r8"],
        gauges={"hr:limit:concurrency:key:key_1": 1},
        left_in_state=["gate-a: boot.inflight"],
        unrest=["leases stand"],
    )
    findings = judge(facts).findings
    assert {finding.wrong for finding in findings} == {Wrong.LEAKED}
    assert {finding.subject for finding in findings} == {
        "at rest",
        "r8",
        "hr:limit:concurrency:key:key_1",
        "gate-a: boot.inflight",
        "wal_1",
    }


def test_a_balance_that_differs_from_the_ledgers_has_leaked() -> None:
    wallet = replace(WALLET, balance_micros=WALLET.balance_micros + 1)
    [finding] = judge(replace(WELL, wallets=[wallet])).findings
    assert finding == Finding(Wrong.LEAKED, "wal_1", finding.detail)


def test_a_red_reconciliation_is_a_finding_of_its_own() -> None:
    facts = replace(WELL, reconciliation="red", reconciliation_reasons=["r1: unexplained"])
    assert judge(facts).findings == [Finding(Wrong.LOST, "reconciliation", "r1: unexplained")]
