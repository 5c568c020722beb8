"""Evidence: hash and signature hold together exactly what was recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace_billing.outcomes.evidence import BYTES_MAX, Evidence, Observer, canonical, intact, record
from headrace_billing.outcomes.outcome import ObserverGrade
from headrace_billing.outcomes.verification import Link, decide, request_of
from headrace_billing.outcomes.verifiers.verdict import EvidenceInvalid, Verdict, VerificationResult

KEY = b"k" * 32
AT = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def recorded(content: dict[str, Any]) -> Evidence:
    return record(
        id="evidence_1",
        outcome="outcome_1",
        observer=Observer(ObserverGrade.AGENT, "key:key_1"),
        content=content,
        at=AT,
        signing_key=KEY,
    )


def test_it_is_intact_as_recorded_and_the_order_of_fields_is_nothing() -> None:
    one = recorded({"question": "17+25", "answer": "42"})
    assert intact(one, KEY)
    assert one == recorded({"answer": "42", "question": "17+25"})


@pytest.mark.parametrize(
    "change",
    [
        {"content": '{"answer":"43"}'},
        {"sha256": "0" * 64},
        {"outcome": "outcome_2"},
        {"id": "evidence_2"},
        {"observer": Observer(ObserverGrade.CUSTOMER, "key:key_1")},
        {"observer": Observer(ObserverGrade.AGENT, "key:key_2")},
        {"recorded_at": AT + timedelta(microseconds=1)},
        {"signature": "hmac-sha256:00"},
    ],
)
def test_any_change_shows(change: dict[str, Any]) -> None:
    assert not intact(replace(recorded({"answer": "42"}), **change), KEY)


def test_another_key_did_not_sign_it() -> None:
    assert not intact(recorded({"answer": "42"}), b"x" * 32)


@pytest.mark.parametrize(
    "content", [{"a": "x" * BYTES_MAX}, {"a": float("nan")}, {"a": "\0"}, {"a": "\ud800"}]
)
def test_what_can_not_be_kept_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(EvidenceInvalid):
        canonical(content)


@pytest.mark.parametrize("named", [None, 3, "", "req_1", "0190-x"])
def test_evidence_must_name_a_request(named: object) -> None:
    with pytest.raises(EvidenceInvalid, match="request_id"):
        request_of({"request_id": named})


def test_a_pass_counts_only_for_a_request_that_is_proven_to_be_the_tasks() -> None:
    passed = Verdict(VerificationResult.PASS, "right")
    assert decide(passed, Link.PROVEN) == passed
    foreign = decide(passed, Link.FOREIGN)
    assert foreign is not None
    assert foreign.result is VerificationResult.UNPROVABLE
    assert decide(passed, Link.UNSEEN) is None


@pytest.mark.parametrize("link", list(Link))
@pytest.mark.parametrize("result", [VerificationResult.FAIL, VerificationResult.UNPROVABLE])
def test_what_does_not_pass_waits_for_nothing(link: Link, result: VerificationResult) -> None:
    verdict = Verdict(result, "no")
    assert decide(verdict, link) is verdict
