"""From a model's record and the machine's profile to vLLM's argument list. Pure: it starts nothing.

What billing rests on is in every list, whatever the model and the machine: usage on each chunk, so that a
stream which is cut off leaves an exact count, and the cached part of the prompt.
"""

from dataclasses import dataclass

from headrace_platform.catalog.models import location
from headrace_platform.catalog.record import HubWeights, ModelRecord

METERING_FLAGS = ("--enable-force-include-usage", "--enable-prompt-tokens-details")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What a machine gives to one replica."""

    name: str
    dtype: str
    kv_cache_bytes: int
    block_tokens: int
    sequences_max: int
    """Requests that the engine works on together; the rest waits inside it."""
    batched_tokens_max: int
    """Prompt and output tokens of one step, which bounds how long a step can be."""
    context_tokens_max: int | None = None
    """Shortens the model's context where the key-value cache could not hold one whole."""
    eager: bool = False
    """No compilation and no graphs: a start in seconds, at some cost a token."""


LOCAL_CPU = EngineProfile(
    name="local-cpu",
    dtype="bfloat16",
    # 64 MiB hold tens of thousands of the tiny model's tokens; vLLM would otherwise take gigabytes.
    kv_cache_bytes=64 * 1024 * 1024,
    # The CPU backend's 128 would find no prefix again in the short prompts of a first try.
    block_tokens=32,
    sequences_max=16,
    batched_tokens_max=4096,
    eager=True,
)


def engine_arguments(record: ModelRecord, profile: EngineProfile) -> list[str]:
    """Arguments of `vllm serve`, without host and port, which are whoever starts it to choose."""
    context = min(record.context_tokens, profile.context_tokens_max or record.context_tokens)
    arguments = [
        *("--model", location(record)),
        *("--served-model-name", record.id),
        *("--max-model-len", str(context)),
        *("--dtype", profile.dtype),
        *("--kv-cache-memory-bytes", str(profile.kv_cache_bytes)),
        *("--block-size", str(profile.block_tokens)),
        *("--max-num-seqs", str(profile.sequences_max)),
        *("--max-num-batched-tokens", str(profile.batched_tokens_max)),
        "--enable-prefix-caching",
        "--enable-auto-tool-choice",
        *("--tool-call-parser", record.tool_parser),
        *("--reasoning-parser", record.reasoning_parser),
        *METERING_FLAGS,
    ]
    if isinstance(record.weights, HubWeights):
        arguments += ["--revision", record.weights.revision]
    if profile.eager:
        arguments.append("--enforce-eager")
    return arguments + list(record.engine_flags)
