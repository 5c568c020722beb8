"""The verifier `arithmetic@1`: what it understands, what it compares, and what it leaves undecided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.outcomes.verifiers.arithmetic import VERIFIER, answered, judge, operands
from headrace_billing.outcomes.verifiers.verdict import EvidenceInvalid, VerificationResult

PASS, FAIL, UNPROVABLE = VerificationResult.PASS, VerificationResult.FAIL, VerificationResult.UNPROVABLE


def result(question: str, answer: str) -> VerificationResult:
    return judge({"question": question, "answer": answer, "request_id": "r"}).result


@pytest.mark.parametrize(
    "question",
    [
        "What is 17+25?",
        "what's 17 + 25",
        "17 plus 25",
        "17 + 25 = ?",
        "17+25=",
        "Compute 17 + 25.",
        "Please calculate 17+25.",
        "How much is 17 plus 25?",
        "Tell me: what is 17 + 25?",
        "the sum of 17 and 25",
        "What is the sum of 17 and 25?",
        "Add 17 and 25.",
        "add 17 to 25",
        "17 added to 25",
    ],
)
def test_an_addition_is_understood_however_it_is_asked(question: str) -> None:
    assert operands(question) == (17, 25)
    assert result(question, "42") is PASS


@pytest.mark.parametrize(
    "question",
    [
        "What is 17-25?",
        "What is 17+25 times 2?",
        "What is 17+25+1?",
        "What is 1.7+25?",
        "What is 17 + x?",
        "Tell me a long story.",
        "Is 17+25 equal to 42?",
        "2 * 17+25",
        "What is 17+" + "9" * 61 + "?",
    ],
)
def test_a_question_with_anything_left_over_is_unprovable_whatever_the_answer(question: str) -> None:
    assert result(question, "42") is UNPROVABLE


@pytest.mark.parametrize(
    "answer", ["42", " 42.", "**42**", "The answer is 42.", "17 + 25 = 42", "17 plus 25 = 42, so 42!"]
)
def test_the_one_integer_of_the_answer_counts(answer: str) -> None:
    assert result("What is 17+25?", answer) is PASS


@pytest.mark.parametrize(
    "answer", ["43", "-42", "42.5", "0.42", "4 2", "42 or 43", "x42", "42nd", "(none)", "4,2", "17 + 25 = 43"]
)
def test_anything_else_is_a_failure_not_a_guess(answer: str) -> None:
    assert result("What is 17+25?", answer) is FAIL


@given(a=st.integers(-(10**12), 10**12), b=st.integers(-(10**12), 10**12), off=st.integers(-3, 3))
def test_it_passes_exactly_the_sum(a: int, b: int, off: int) -> None:
    expected = PASS if off == 0 else FAIL
    assert result(f"What is {a} + {b}?", f"{a + b + off}") is expected
    assert result(f"What is {a}+{b}?", f"{a + b + off:,}") is expected


@given(text=st.text(max_size=200))
def test_no_text_can_break_it(text: str) -> None:
    answered(text)
    operands(text)


@pytest.mark.parametrize(
    "content",
    [{}, {"question": "1+1"}, {"question": 3, "answer": "2"}, {"question": "1+1", "answer": "2" * 2001}],
)
def test_evidence_of_another_shape_is_refused_before_it_is_stored(content: dict[str, object]) -> None:
    with pytest.raises(EvidenceInvalid):
        VERIFIER.check(content)
