"""When a verdict may be given at all: a pass counts only if its request is proven to be this task's.

The proof is the usage event, which comes by its own way and may be a moment late; until the verification window ends
an event that is not there yet is waited for.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from headrace_billing.outcomes.verifiers.verdict import EvidenceInvalid, Verdict, VerificationResult


class Link(StrEnum):
    """What usage says about the request that the evidence names."""

    PROVEN = "proven"  # it was made inside this task
    FOREIGN = "foreign"  # it was made, and not inside this task
    UNSEEN = "unseen"  # no such event, yet


def request_of(content: Mapping[str, Any]) -> UUID:
    """Raises `EvidenceInvalid`."""
    named = content.get("request_id")
    try:
        return UUID(named if isinstance(named, str) else "")
    except ValueError as error:
        raise EvidenceInvalid(
            "`evidence.request_id` must be the id of a request, as in x-request-id."
        ) from error


def decide(verdict: Verdict, link: Link) -> Verdict | None:
    """The verdict that counts; null as long as it can still go either way."""
    if verdict.result is not VerificationResult.PASS:
        return verdict
    match link:
        case Link.PROVEN:
            return verdict
        case Link.FOREIGN:
            return Verdict(VerificationResult.UNPROVABLE, "The request was not made inside this task.")
        case Link.UNSEEN:
            return None


TOO_LATE = Verdict(
    VerificationResult.UNPROVABLE, "No usage of the request became known within the verification window."
)
