"""Running counts above the events of dialects that tell usage at the ends of a stream only.

Our engine writes them as a comment, which is taken out here.
"""

import msgspec

from headrace_contracts.engine import RUNNING_COUNTS_COMMENT

COMMENT = RUNNING_COUNTS_COMMENT.encode()

_encode = msgspec.json.encode


class CachedTokens(msgspec.Struct):
    cached_tokens: int | None = None


class ReasoningTokens(msgspec.Struct):
    reasoning_tokens: int = 0


class Counts(msgspec.Struct, omit_defaults=True):
    """In the engine's own shape."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: ReasoningTokens | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0

    def encoded(self) -> bytes:
        return _encode(self)


read_counts = msgspec.json.Decoder(Counts).decode
_fields = msgspec.json.Decoder(dict[str, object]).decode


def prompt_alone(usage: bytes) -> bytes:
    """The same usage, in the engine's shape, of a request of whose output nothing counts."""
    fields = _fields(usage) | {"completion_tokens": 0}
    fields.pop("completion_tokens_details", None)
    if "total_tokens" in fields:
        fields["total_tokens"] = fields.get("prompt_tokens", 0)
    return _encode(fields)


def split_counts(block: bytes) -> tuple[Counts | None, bytes]:
    """The running counts above an event, and the event without them."""
    if not block.startswith(COMMENT):
        return None, block
    comment, _, event = block.removeprefix(COMMENT).partition(b"\n")
    return read_counts(comment), event
