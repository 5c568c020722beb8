"""Evidence: what an observer saw, fixed the moment it arrives by a hash and a signature over both.

It is kept as the very text that was hashed, so that anybody can hash it again.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace_billing.outcomes.outcome import ObserverGrade
from headrace_billing.outcomes.verifiers.verdict import EvidenceInvalid

BYTES_MAX = 65_536
"""Evidence is a pointer and a digest of what happened, not an archive of it."""


@dataclass(frozen=True, slots=True)
class Observer:
    grade: ObserverGrade
    id: str


@dataclass(frozen=True, slots=True)
class Evidence:
    id: str
    outcome: str
    observer: Observer
    content: str
    """Canonical JSON."""
    sha256: str
    recorded_at: datetime
    signature: str


def record(
    *,
    id: str,  # noqa: A002 - it is the evidence's id, and nothing else here has one
    outcome: str,
    observer: Observer,
    content: Mapping[str, Any],
    at: datetime,
    signing_key: bytes,
) -> Evidence:
    """Raises `EvidenceInvalid` for content that is too large or that JSON can't carry."""
    text = canonical(content)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    unsigned = Evidence(id, outcome, observer, text, sha256, at, signature="")
    return Evidence(id, outcome, observer, text, sha256, at, sign(unsigned, signing_key))


def canonical(content: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        length = len(text.encode())
    except ValueError as error:
        raise EvidenceInvalid(f"`evidence` is not plain JSON: {error}.") from error
    if length > BYTES_MAX:
        raise EvidenceInvalid(f"`evidence` is larger than {BYTES_MAX} bytes.")
    if "\\u0000" in text:
        raise EvidenceInvalid("`evidence` holds a NUL character.")
    return text


def sign(evidence: Evidence, signing_key: bytes) -> str:
    """`hmac-sha256:` and the code of everything that the evidence says, in hex."""
    fields = (
        evidence.id,
        evidence.outcome,
        evidence.observer.grade,
        evidence.observer.id,
        evidence.recorded_at.astimezone(UTC).isoformat(),
        evidence.sha256,
    )
    said = "\n".join(fields)
    return f"hmac-sha256:{hmac.new(signing_key, said.encode(), hashlib.sha256).hexdigest()}"


def intact(evidence: Evidence, signing_key: bytes) -> bool:
    """Whether content, hash and signature still belong together."""
    hashed = hashlib.sha256(evidence.content.encode()).hexdigest()
    return hmac.compare_digest(hashed, evidence.sha256) and hmac.compare_digest(
        sign(evidence, signing_key), evidence.signature
    )
