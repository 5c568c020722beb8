"""What Headrace has to know of a model: one frozen record each, and no rule by model family.

Two models of one family may need different parsers and flags (INTELLECT-3 shares GLM-4.5-Air's shape and
none of its parsers; GLM-5.3 drops the switch that GLM-5.2 had), so whoever serves, plans or verifies a
model reads its record and nothing else. Facts only: how an engine is started from them is `engine`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class ToolFormat(StrEnum):
    """How the chat template writes tool calls. The tags are the same; the white space is not, and counts."""

    LINES = "lines"  # GLM-4.5 and 4.6: name, keys and values on lines of their own
    COMPACT = "compact"  # GLM-4.7 and later: nothing between the tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """When the model reasons before it answers, and what turns that off."""

    by_default: bool
    switch: str | None
    """The chat template's keyword that is set to false for no thinking; null where it can't be turned off."""
    prompt_opens: bool
    """The prompt ends in `<think>`, so that the model's own text holds only the closing tag."""
    efforts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The shape of a text model with grouped-query attention."""

    layers: int
    layers_dense: int
    """The first layers, which have one feed-forward block and no experts."""
    hidden: int
    heads: int
    heads_kv: int
    head_dim: int
    experts_routed: int
    experts_shared: int
    experts_per_token: int
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedWeights:
    """Weights inside this distribution, at `catalog/weights/<folder>`."""

    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubWeights:
    """Weights in a Hugging Face repository, pinned to a commit."""

    repository: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    id: str
    """The name that clients ask for, prices go by and the engine serves."""
    aliases: tuple[str, ...] = ()
    base: str | None = None
    """For a fine-tune, the record that it was derived from."""
    revision: str
    owned_by: str
    released_at: int
    """Seconds since the Unix epoch."""
    licence: str
    weights: ShippedWeights | HubWeights

    architecture: str
    """The class in Hugging Face's config, which vLLM looks up."""
    dimensions: Dimensions
    parameters: int
    parameters_active: int
    context_tokens: int
    eos_ids: tuple[int, ...]

    tool_format: ToolFormat
    tool_parser: str
    reasoning_parser: str
    thinking: Thinking
    prompt_overhead_tokens: int
    """Upper bound of what the chat template adds to a prompt whose text is bounded by a token a byte."""

    vllm_minimum: str
    engine_flags: tuple[str, ...] = ()
    """vLLM arguments that this model needs wherever it runs."""


def fine_tune(
    base: ModelRecord,
    *,
    name: str,
    revision: str,
    owned_by: str,
    released_at: int,
    weights: ShippedWeights | HubWeights,
) -> ModelRecord:
    """A model that differs from `base` in its weights alone: parsers, template and flags are inherited."""
    return replace(
        base,
        id=name,
        aliases=(),
        base=base.id,
        revision=revision,
        owned_by=owned_by,
        released_at=released_at,
        weights=weights,
    )
