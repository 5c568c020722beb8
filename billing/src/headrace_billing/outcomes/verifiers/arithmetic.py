"""`arithmetic@1`: is the answer the sum that the question asks for?

Evidence is `{question, answer, request_id}`. Only a question that is wholly understood can be judged: with anything
left over ("17+25 times 2") the sum is not what was asked for, and no verdict is better than a wrong one.
"""

import re
from collections.abc import Mapping
from typing import Any

from headrace_billing.outcomes.verifiers.verdict import Verdict, VerificationResult, Verifier, text_of

CHARACTERS_MAX = 2000
# Far beyond any sum that somebody would buy; keeps the arithmetic itself cheap.
DIGITS_MAX = 60

# Models and word processors write the typographic minus sign, too.
MINUS = "\N{MINUS SIGN}"
NUMBER = rf"[-{MINUS}]?\d{{1,{DIGITS_MAX}}}"
ASKING = r"(?:(?:please|what\s+is|what's|how\s+much\s+is|compute|calculate|evaluate|solve|tell\s+me)[\s,:]+)*"
PHRASINGS = tuple(
    re.compile(rf"\s*{ASKING}{phrase}\s*(?:=\s*)?[.?!]*\s*", re.IGNORECASE)
    for phrase in (
        rf"(?P<a>{NUMBER})\s*(?:\+|plus)\s*(?P<b>{NUMBER})",
        rf"(?:the\s+)?sum\s+of\s+(?P<a>{NUMBER})\s+and\s+(?P<b>{NUMBER})",
        rf"add\s+(?P<a>{NUMBER})\s+(?:and|to|with)\s+(?P<b>{NUMBER})",
        rf"(?P<a>{NUMBER})\s+added\s+to\s+(?P<b>{NUMBER})",
    )
)

# Neither half of a decimal fraction, nor digits inside a word, is the integer that was asked for.
INTEGER = re.compile(rf"(?<![\w.,])[-{MINUS}]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?!\w|[.,]\d)")


def operands(question: str) -> tuple[int, int] | None:
    for phrasing in PHRASINGS:
        if match := phrasing.fullmatch(question):
            return _integer(match["a"]), _integer(match["b"])
    return None


def answered(answer: str) -> int | None:
    """The one integer that the answer gives: all that stands after its last `=`, or else in the whole of it."""
    numbers = {found for found in INTEGER.findall(answer.rpartition("=")[2]) if len(found) <= DIGITS_MAX * 2}
    return _integer(numbers.pop()) if len(numbers) == 1 else None


def judge(content: Mapping[str, Any]) -> Verdict:
    question, answer = _read(content)
    summands = operands(question)
    if summands is None:
        return Verdict(VerificationResult.UNPROVABLE, "The question is not understood as one addition.")
    given, wanted = answered(answer), sum(summands)
    if given is None:
        return Verdict(VerificationResult.FAIL, "The answer does not give exactly one integer.")
    if given != wanted:
        return Verdict(VerificationResult.FAIL, f"The answer gives {given}; the sum is {wanted}.")
    return Verdict(VerificationResult.PASS, f"The answer gives {given}, which is the sum.")


def check(content: Mapping[str, Any]) -> None:
    _read(content)


def _read(content: Mapping[str, Any]) -> tuple[str, str]:
    question = text_of(content, "question", characters_max=CHARACTERS_MAX)
    return question, text_of(content, "answer", characters_max=CHARACTERS_MAX)


def _integer(digits: str) -> int:
    return int(digits.replace(",", "").replace(MINUS, "-"))


VERIFIER = Verifier(id="arithmetic@1", check=check, judge=judge)
