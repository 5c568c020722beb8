"""What a prompt counts at most, for the hold that is taken before an engine has counted it."""

from headrace_contracts.deployments import Deployment
from headrace_gateway.dialects.audio import clip_tokens_max
from headrace_gateway.dialects.fields import Fields
from headrace_gateway.dialects.media import NO_MEDIA, Media

UNREAD = frozenset(
    (
        "bad_words",
        "cache_salt",
        "file_base64",
        "metadata",
        "model",
        "previous_response_id",
        "prompt_cache_key",
        "request_id",
        "safety_identifier",
        "session_id",
        "stop",
        "stop_sequences",
        "user",
        "user_id",
    )
)
"""Fields that no engine puts into a prompt: names of things and people, recordings, where to stop. Every other may end up
there, by whatever name: tools, documents, values and text of a template. Guardrails go by this too."""

TOOL_EXPANSION = 2
"""Templates spell out tools and their calls with marks of their own: at most a token a byte more."""


def prompt_bytes_of(fields: Fields, media: Media, *, calls: bytes, held_in: str = "messages") -> int:
    """`calls` stands in the field `held_in` where the conversation holds calls of tools."""
    size = sum([len(memoryview(raw)) for name, raw in fields.items() if name not in UNREAD])
    size -= media.inline_bytes
    spelt_out = "tools" in fields or (held_in in fields and calls in bytes(fields[held_in]))
    return size * TOOL_EXPANSION if spelt_out else size


def prompt_tokens_max(prompt_bytes: int, media: Media, deployment: Deployment, *, prompts: int = 1) -> int:
    """No token is less than a byte of text, and no prompt is longer than the context."""
    tokens = prompt_bytes + prompts * deployment.prompt_overhead_tokens
    if media is not NO_MEDIA:
        tokens += _media_tokens_max(media, deployment)
    return min(tokens, prompts * deployment.context_tokens)


def _media_tokens_max(media: Media, deployment: Deployment) -> int:
    hearing = deployment.hearing
    heard = 0 if hearing is None else sum(clip_tokens_max(clip, hearing) for clip in media.clips)
    return media.images * deployment.image_tokens_max + heard
