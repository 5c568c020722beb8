"""One admission an idempotency key: what the scripts are told of it, and what they keep of its end.

What must stay true: a key's request runs once at a time, and not again once it has an outcome. The claim is the
lease's: written with it by `admit`, turned into the outcome by the `settle` that ends it, and void as soon as the
lease is gone without one, so that a gateway that died blocks nobody for longer than its leases stand.
"""

from dataclasses import dataclass, replace

import msgspec

from headrace_gateway.call import KeptAnswer
from headrace_gateway.limits import keys

KEPT_SECONDS = 3600
"""Clients repeat within minutes; what is kept for longer is only memory."""

CLAIMED_SECONDS = 24 * 3600
"""Longer than any request runs; until then the lease tells whether the claim still means anything."""

ANSWER_BYTES_MAX = 256 * 1024
"""Of one answer: text of a hundred thousand words."""


@dataclass(frozen=True, slots=True)
class AnswerBounds:
    """Of answers that are kept as long as each other, within that time; of what would exceed them only the counts are
    kept."""

    org_bytes_max: int = 32 * 2**20
    all_bytes_max: int = 128 * 2**20


_encode = msgspec.msgpack.Encoder().encode


ANSWER_BOUNDS = AnswerBounds()


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """An idempotency key of one project. In-flight tables hold it, so fields are only ever added, with defaults."""

    project: str
    key: str
    request: str
    """What was asked with it; the same key with another request is a mistake."""
    kept_seconds: int = KEPT_SECONDS
    counted_with: str = ""
    """Whose answers share a bound with this one."""

    @property
    def place(self) -> str:
        return keys.idempotent(self.project, self.key)


@dataclass(frozen=True, slots=True)
class Outcome:
    claim: Claim
    whole: bytes
    """Empty frees the key: nothing came of the request, so it may be tried again."""
    brief: bytes
    """The same without the answer itself."""

    def brief_alone(self) -> "Outcome":
        return replace(self, whole=self.brief if self.whole else b"")

    def arguments(self, bounds: AnswerBounds) -> tuple[bytes, ...]:
        """As settle.lua takes them."""
        claim = self.claim
        return (
            claim.place.encode(),
            claim.request.encode(),
            self.whole,
            self.brief,
            b"%d" % (claim.kept_seconds * 1000),
            keys.idempotent_bytes(claim.counted_with or claim.project).encode(),
            b"%d" % bounds.org_bytes_max,
            keys.idempotent_bytes_of_all(claim.kept_seconds).encode(),
            b"%d" % bounds.all_bytes_max,
        )


def outcome_of(claim: Claim, kept: KeptAnswer, answer: tuple[str, bytes] | None) -> Outcome:
    """Of a request that ended; `answer` is a content type and a body, if there is one to be given again."""
    brief = _encode(kept)
    if answer is not None:
        content_type, body = answer
        whole = _encode(msgspec.structs.replace(kept, content_type=content_type, body=body))
        return Outcome(claim, whole, brief)
    # Who was charged nothing may simply try again.
    return Outcome(claim, brief if kept.tokens.total else b"", brief)
