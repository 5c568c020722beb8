"""The engine's usage object (OpenAI's shape) as disjoint counts: each token once.

There `prompt_tokens` includes the cached ones and `completion_tokens` the reasoning. A usage that can't be
(negative, more cached than prompt) is not a smaller bill nor a larger one: it counts nothing and is reported.
"""

import msgspec

from headrace_contracts.usage import TokenCounts

TOKENS_MAX = 2**31  # far above any context; what exceeds it is a broken engine


class PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class EngineUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


_decode = msgspec.json.Decoder(EngineUsage).decode

NONE = TokenCounts()


def read_counts(usage: bytes) -> TokenCounts | None:
    """Null where the usage is no usage."""
    try:
        engine = _decode(usage)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    prompt, completion = engine.prompt_tokens, engine.completion_tokens or 0
    cached = reasoning = 0
    if engine.prompt_tokens_details is not None:
        cached = engine.prompt_tokens_details.cached_tokens or 0
    if engine.completion_tokens_details is not None:
        reasoning = engine.completion_tokens_details.reasoning_tokens or 0
    if not (0 <= cached <= prompt < TOKENS_MAX and 0 <= reasoning <= completion < TOKENS_MAX):
        return None
    return TokenCounts(
        input_uncached=prompt - cached,
        cache_read=cached,
        output_visible=completion - reasoning,
        reasoning=reasoning,
    )
