"""Anthropic's counts as the engine's own: `input_tokens` leaves out what was cached, which stands beside it.

What must stay true: a cached token is counted once. The whole prompt is the sum of the three classes; OpenAI's
shape, in which metering reads usage, has the cached ones inside `prompt_tokens`.
"""

import msgspec

from headrace_gateway.dialects.running_counts import CachedTokens, Counts


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
