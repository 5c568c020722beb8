"""The whole way of tasks and outcomes over HTTP, on real books."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from headrace_billing.ledger.transaction import AccountKind
from headrace_contracts import channels
from headrace_contracts.access import TaskStatus, decode_task
from tests.billing.ingest.usage import take
from tests.billing.outcomes.market import OUTCOME_TYPE, QUESTION, Market
from tests.billing.seller import Document, Seller

RESERVED, APPLIED = AccountKind.OUTCOME_RESERVED, AccountKind.WALLET_APPLIED
UNBILLED, REVENUE = AccountKind.UNBILLED, AccountKind.REVENUE_OUTCOMES


async def said_to_gateways(valkey: Redis, task: Document) -> TaskStatus:
    record = await valkey.hget(channels.task(task["id"]), "r")
    assert record is not None
    return decode_task(record).status


async def test_opening_a_task_reserves_its_price_and_tells_the_gateways(
    market: Market, valkey: Redis
) -> None:
    task = await market.open_task()
    assert (task["status"], task["price"], task["outcome_type"]) == ("open", "0.25", "arithmetic-answer@1")
    assert await market.balance() == "4.75"
    assert await market.account(RESERVED) == -250
    assert await said_to_gateways(valkey, task) is TaskStatus.OPEN
    assert await valkey.hget(channels.wallet(market.customer.wallet), "bal") == b"4750000"


async def test_an_accepted_outcome_is_earned_once_and_closes_its_task(market: Market, valkey: Redis) -> None:
    task = await market.open_task()
    outcome = await market.report(task["id"], await market.use(task["id"]))
    assert outcome["status"] == "verified"
    assert [v["result"] for v in outcome["verifications"]] == ["pass"]
    assert outcome["evidence"][0]["observer"]["grade"] == "D"

    accepted = await market.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})
    assert (accepted["status"], accepted["accepted_as"]) == ("accepted", "confirmed")
    assert [step["status"] for step in accepted["history"]] == [
        "reported",
        "verifying",
        "verified",
        "accepted",
    ]
    assert await market.account(RESERVED) == 0
    assert (await market.account(APPLIED), await market.account(UNBILLED)) == (-250, 250)
    assert await market.account(REVENUE) == -250
    assert await market.balance() == "4.75"
    assert await said_to_gateways(valkey, task) is TaskStatus.CLOSED


async def test_a_wrong_answer_is_rejected_and_costs_nothing(market: Market, valkey: Redis) -> None:
    task = await market.open_task()
    outcome = await market.report(task["id"], await market.use(task["id"]), answer="43")
    assert outcome["status"] == "rejected"
    assert outcome["verifications"][0]["result"] == "fail"
    assert outcome["evidence"][0]["content"]["answer"] == "43"
    assert await market.balance() == "5.00"
    assert await market.account(RESERVED) == 0
    assert await market.account(UNBILLED) == 0
    assert (await market.buyer.get(f"/v1/tasks/{task['id']}"))["status"] == "closed"
    assert await said_to_gateways(valkey, task) is TaskStatus.CLOSED


async def test_a_task_that_the_wallet_can_not_pay_leaves_nothing_behind(
    market: Market, valkey: Redis
) -> None:
    for number in range(20):
        await market.open_task(f"task {number}")
    assert await market.balance() == "0.00"
    body = {"outcome_type": "arithmetic-answer", "dedupe_key": "one too many"}
    assert await market.buyer.refused("/v1/tasks", body) == (402, "insufficient_balance")
    assert len(await valkey.keys(channels.task("*"))) == 20
    await market.seller.grant("0.25", wallet=market.customer.wallet)
    assert (await market.open_task("one too many"))["status"] == "open"


async def test_tasks_opened_at_once_never_reserve_more_than_there_is(market: Market) -> None:
    body = {"outcome_type": "arithmetic-answer"}
    answers = await asyncio.gather(
        *(market.buyer.ask("POST", "/v1/tasks", {**body, "dedupe_key": f"t{n}"}) for n in range(24))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 20 + [402] * 4
    assert await market.balance() == "0.00"


async def test_verification_waits_for_usage_that_is_still_on_its_way(market: Market) -> None:
    task = await market.open_task()
    request = str(uuid4())
    outcome = await market.report(task["id"], request)
    assert outcome["status"] == "verifying"
    assert await market.let_time_work(seconds=1) == 0
    assert (await market.outcome(outcome))["status"] == "verifying"

    await take(market.database, market.gateway.event(request=request, task=task["id"]))
    await market.let_time_work(seconds=1)
    assert (await market.outcome(outcome))["status"] == "verified"


async def test_usage_that_never_comes_is_unprovable_and_never_bills(market: Market) -> None:
    task = await market.open_task()
    outcome = await market.report(task["id"], str(uuid4()))
    await market.let_time_work(hours=24)
    outcome = await market.outcome(outcome)
    assert outcome["status"] == "expired"
    assert [v["result"] for v in outcome["verifications"]] == ["unprovable"]
    assert await market.balance() == "5.00"
    assert await market.account(UNBILLED) == 0


@pytest.mark.parametrize("question", ["What is 17+25 times 1?", "Tell me a story."])
async def test_a_question_that_is_not_understood_never_bills(market: Market, question: str) -> None:
    task = await market.open_task()
    outcome = await market.report(task["id"], await market.use(task["id"]), question=question)
    assert (outcome["status"], outcome["verifications"][0]["result"]) == ("rejected", "unprovable")
    assert await market.balance() == "5.00"


async def test_a_request_of_another_task_proves_nothing(market: Market) -> None:
    other = await market.open_task("another")
    task = await market.open_task()
    outcome = await market.report(task["id"], await market.use(other["id"]))
    assert (outcome["status"], outcome["verifications"][0]["result"]) == ("rejected", "unprovable")


async def test_a_request_outside_any_task_proves_nothing(market: Market) -> None:
    task = await market.open_task()
    outcome = await market.report(task["id"], await market.use(None))
    assert outcome["verifications"][0]["result"] == "unprovable"


async def test_the_seller_can_not_accept_but_may_withdraw(market: Market) -> None:
    outcome = await market.solve()
    assert await market.seller.refused(f"/v1/outcomes/{outcome['id']}/accept", {}) == (403, "forbidden")
    withdrawn = await market.seller.post(f"/v1/outcomes/{outcome['id']}/reject", {"reason": "goodwill"})
    assert withdrawn["status"] == "withdrawn"
    assert await market.balance() == "5.00"


async def test_a_customer_may_reject_what_the_platform_verified(market: Market) -> None:
    outcome = await market.solve()
    rejected = await market.buyer.post(f"/v1/outcomes/{outcome['id']}/reject", {"reason": "not what I meant"})
    assert rejected["status"] == "rejected"
    assert rejected["history"][-1]["reason"] == "not what I meant"
    assert await market.balance() == "5.00"
    path = f"/v1/outcomes/{outcome['id']}/accept"
    assert await market.buyer.refused(path, {}) == (409, "outcome_transition_illegal")


async def test_of_many_acceptances_at_once_one_bills(market: Market) -> None:
    outcome = await market.solve()
    path = f"/v1/outcomes/{outcome['id']}/accept"
    answers = await asyncio.gather(*(market.buyer.ask("POST", path, {}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert await market.account(UNBILLED) == 250


async def test_acceptance_and_rejection_at_once_have_one_winner(market: Market) -> None:
    outcome = await market.solve()
    answers = await asyncio.gather(
        *(
            market.buyer.ask("POST", f"/v1/outcomes/{outcome['id']}/{verb}", {})
            for verb in ("accept", "reject") * 3
        )
    )
    assert sum(answer.is_success for answer in answers) == 1
    billed = (await market.outcome(outcome))["status"] == "accepted"
    assert await market.account(UNBILLED) == (250 if billed else 0)
    assert await market.balance() == ("4.75" if billed else "5.00")
    assert await market.account(RESERVED) == 0


async def test_the_same_object_is_billed_once_whatever_the_task(market: Market) -> None:
    outcome = await market.solve()
    body = {"outcome_type": "arithmetic-answer", "dedupe_key": QUESTION}
    assert await market.buyer.refused("/v1/tasks", body) == (409, "task_already_open")
    await market.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})
    assert await market.buyer.refused("/v1/tasks", body) == (409, "outcome_already_billed")
    assert await market.balance() == "4.75"


async def test_a_rejected_object_may_be_tried_again(market: Market) -> None:
    task = await market.open_task()
    await market.report(task["id"], await market.use(task["id"]), answer="43")
    assert (await market.solve())["status"] == "verified"


async def test_a_task_opened_at_once_for_the_same_object_is_open_once(market: Market) -> None:
    body = {"outcome_type": "arithmetic-answer", "dedupe_key": QUESTION}
    answers = await asyncio.gather(*(market.buyer.ask("POST", "/v1/tasks", body) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    assert await market.balance() == "4.75"


async def test_a_retried_request_gets_the_first_answer_and_moves_nothing(market: Market) -> None:
    body = {"outcome_type": "arithmetic-answer", "dedupe_key": QUESTION}
    once = {"idempotency-key": "once"}
    first = await market.buyer.ask("POST", "/v1/tasks", body, **once)
    again = await market.buyer.ask("POST", "/v1/tasks", body, **once)
    assert first.json() == again.json()
    assert await market.balance() == "4.75"
    conflict = await market.buyer.refused("/v1/tasks", {**body, "dedupe_key": "other"}, **once)
    assert conflict == (409, "idempotency_conflict")

    outcome = await market.report(first.json()["id"], await market.use(first.json()["id"]))
    path = f"/v1/outcomes/{outcome['id']}/accept"
    accepted = await market.buyer.ask("POST", path, {}, **once)
    assert (await market.buyer.ask("POST", path, {}, **once)).json() == accepted.json()
    assert await market.account(UNBILLED) == 250


async def test_a_task_has_one_undecided_outcome_and_takes_none_once_closed(market: Market) -> None:
    task = await market.open_task()
    request = await market.use(task["id"])
    outcome = await market.report(task["id"], request)
    path = f"/v1/tasks/{task['id']}/outcomes"
    evidence = {"question": QUESTION, "answer": "42", "request_id": request}
    body = {"observer": "agent", "evidence": evidence}
    assert await market.buyer.refused(path, body) == (409, "outcome_already_reported")
    await market.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})
    assert await market.buyer.refused(path, body) == (409, "task_closed")


async def test_another_customer_sees_nothing_of_it(market: Market) -> None:
    outcome = await market.solve()
    stranger = Seller(market.seller.http, (await market.seller.customer()).secret)
    for path in (f"/v1/tasks/{outcome['task']}", f"/v1/outcomes/{outcome['id']}"):
        assert await stranger.refused(path, None, method="GET") == (404, "not_found")
    for verb in ("accept", "reject"):
        assert await stranger.refused(f"/v1/outcomes/{outcome['id']}/{verb}", {}) == (404, "not_found")
    assert (await market.outcome(outcome))["status"] == "verified"


async def test_a_task_without_evidence_closes_when_its_window_ends(market: Market) -> None:
    task = await market.open_task()
    assert await market.let_time_work(days=6) == 0
    assert await market.let_time_work(days=1) == 1
    assert (await market.buyer.get(f"/v1/tasks/{task['id']}"))["status"] == "closed"
    assert await market.balance() == "5.00"


async def test_what_nobody_confirms_expires(market: Market) -> None:
    outcome = await market.solve()
    await market.let_time_work(days=7)
    assert (await market.outcome(outcome))["status"] == "expired"
    assert await market.balance() == "5.00"


async def test_a_confirmation_that_comes_too_late_is_refused(market: Market) -> None:
    outcome = await market.solve()
    market.clock.passes(days=7)
    path = f"/v1/outcomes/{outcome['id']}/accept"
    assert await market.buyer.refused(path, {}) == (409, "outcome_window_closed")


class TestContractWithOptIn:
    """Where the contract lets a passed verification count after its window."""

    @pytest.fixture
    def outcome_type(self) -> dict[str, Any]:
        return {
            **OUTCOME_TYPE,
            "acceptance": {"deemed_after_stability": True},
            "windows": {"stability_seconds": 3600},
        }

    async def test_silence_after_a_passed_verification_is_deemed_acceptance(self, market: Market) -> None:
        outcome = await market.solve()
        await market.let_time_work(seconds=3599)
        assert (await market.outcome(outcome))["status"] == "verified"
        await market.let_time_work(seconds=1)
        outcome = await market.outcome(outcome)
        assert (outcome["status"], outcome["accepted_as"]) == ("accepted", "deemed")
        assert await market.account(UNBILLED) == 250

    async def test_silence_after_a_missing_verification_is_not(self, market: Market) -> None:
        task = await market.open_task()
        outcome = await market.report(task["id"], str(uuid4()))
        await market.let_time_work(days=30)
        assert (await market.outcome(outcome))["status"] == "expired"


async def test_a_project_that_pays_afterwards_reserves_nothing_and_owes_on_acceptance(
    market: Market,
) -> None:
    market.customer = await market.seller.customer(credit=None, disposition="payg")
    market.buyer = Seller(market.seller.http, market.customer.secret)
    market.gateway.customer = market.customer
    task = await market.open_task()
    assert task["reserved"] is False
    outcome = await market.report(task["id"], await market.use(task["id"]))
    await market.buyer.post(f"/v1/outcomes/{outcome['id']}/accept", {})
    assert await market.account(UNBILLED) == 250
    assert await market.account(APPLIED) == 0


UNSALEABLE: list[tuple[dict[str, Any], str]] = [
    ({"verifier": "arithmetic@9"}, "verifier_unknown"),
    ({"price": "0"}, "amount_invalid"),
    ({"price": "0.0000000001"}, "amount_invalid"),
    ({"currency": "XXY"}, "currency_unknown"),
    ({"fallback": "tokens_share"}, "fallback_unsupported"),
    ({"acceptance": {"confirming": ["D"]}}, "acceptance_rule_invalid"),
    ({"acceptance": {"confirming": ["C"]}}, "acceptance_rule_invalid"),
    ({"windows": {"evidence_seconds": 0}}, "invalid_request"),
    ({"surprise": 1}, "invalid_request"),
]


async def test_an_outcome_type_that_can_not_be_sold_is_refused_and_takes_no_version(market: Market) -> None:
    for change, code in UNSALEABLE:
        _, refused = await market.seller.refused("/v1/outcome-types", {**OUTCOME_TYPE, **change})
        assert refused == code
    assert (await market.seller.post("/v1/outcome-types", OUTCOME_TYPE))["version"] == 2


async def test_a_task_keeps_the_version_that_it_opened_with(market: Market) -> None:
    task = await market.open_task()
    newer = await market.seller.post("/v1/outcome-types", {**OUTCOME_TYPE, "price": "0.50"})
    assert newer["version"] == 2
    outcome = await market.report(task["id"], await market.use(task["id"]))
    assert (outcome["outcome_type"], outcome["price"]) == ("arithmetic-answer@1", "0.25")
    assert (await market.open_task("another"))["price"] == "0.50"
    pinned = await market.buyer.post(
        "/v1/tasks", {"outcome_type": "arithmetic-answer@1", "dedupe_key": "a third"}
    )
    assert pinned["price"] == "0.25"


NO_REPORTS: list[dict[str, Any]] = [
    {"observer": "customer", "evidence": {}},
    {"observer": "agent"},
    {"observer": "agent", "evidence": []},
    {"observer": "agent", "evidence": {"question": "1+1", "answer": "2", "request_id": "x"}},
    {"observer": "agent", "evidence": {"question": "1+1", "answer": "2"}},
    {
        "observer": "agent",
        "evidence": {"question": "1+1", "answer": "2", "request_id": str(uuid4()), "x": "\0"},
    },
]


async def test_a_report_that_is_none_leaves_nothing(market: Market) -> None:
    task = await market.open_task()
    for body in NO_REPORTS:
        status, _ = await market.buyer.refused(f"/v1/tasks/{task['id']}/outcomes", body)
        assert status in (400, 422)
    assert (await market.buyer.get(f"/v1/tasks/{task['id']}"))["outcomes"] == []
