"""What a verifier says. Verifiers are pure: the same content gets the same verdict for ever."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headrace_billing.errors import BillingError


class VerificationResult(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    UNPROVABLE = "unprovable"  # can't be told; never bills


@dataclass(frozen=True, slots=True)
class Verdict:
    result: VerificationResult
    reason: str


class EvidenceInvalid(BillingError):
    """The evidence is not of the shape that the outcome type's verifier reads."""

    code = "evidence_invalid"


@dataclass(frozen=True, slots=True)
class Verifier:
    id: str
    """Name and version: another rule is another version, so that an old verdict can be had again."""
    check: Callable[[Mapping[str, Any]], None]
    """Raises `EvidenceInvalid` for content that no verdict could be given on."""
    judge: Callable[[Mapping[str, Any]], Verdict]


def text_of(content: Mapping[str, Any], field: str, *, characters_max: int) -> str:
    """Raises `EvidenceInvalid`."""
    value = content.get(field)
    if not isinstance(value, str) or not value or len(value) > characters_max:
        raise EvidenceInvalid(f"`evidence.{field}` must be a text of 1 to {characters_max} characters.")
    return value
