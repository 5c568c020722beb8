"""Anthropic's counts as the engine's own: `input_tokens` leaves out what was cached, which stands beside it.

What must stay true: a cached token is counted once. The whole prompt is the sum of the three classes; OpenAI's
shape, in which metering reads usage, has the cached ones inside `prompt_tokens`.
"""

import msgspec

_encode = msgspec.json.encode


class AnthropicUsage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    @property
    def prompt_tokens(self) -> int:
        return (
            self.input_tokens + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        )


class CachedTokens(msgspec.Struct):
    cached_tokens: int | None = None


class Counts(msgspec.Struct):
    """Running counts in the engine's own shape."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: CachedTokens | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0

    def encoded(self) -> bytes:
        return _encode(self)


def counts_of(usage: AnthropicUsage, *, cached_tokens: int | None = None) -> Counts:
    """`cached_tokens` is what is known from elsewhere, for usage that does not tell."""
    cached = usage.cache_read_input_tokens
    if cached is None and cached_tokens is not None:
        cached = min(cached_tokens, usage.prompt_tokens)
    return Counts(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.output_tokens,
        prompt_tokens_details=None if cached is None else CachedTokens(cached),
    )
