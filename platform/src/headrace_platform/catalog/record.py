"""What Headrace has to know of a model: one frozen record each, and no rule by model family.

Two models of one family may need different parsers and flags (INTELLECT-3 shares GLM-4.5-Air's shape and
none of its parsers; GLM-5.3 drops the switch that GLM-5.2 had), so whoever serves, plans or verifies a
model reads its record and nothing else. Facts only: `placement` and `engine` draw the conclusions. What is
not known is null, and is shown as such.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from headrace_platform.catalog.shape import Count, CountOrNone, Shape

# A name is also part of names in Kubernetes.
Name = Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=40)]


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """Read from a file: a field that nobody knows is a mistake, not a surplus."""


class Kind(StrEnum):
    """What goes in and comes out."""

    TEXT = "text"
    VISION = "vision"  # images beside the text
    TRANSCRIPTION = "transcription"
    IMAGE = "image"
    SPEECH = "speech"


class ToolFormat(StrEnum):
    """How the chat template writes tool calls. The tags are the same; the white space is not, and counts."""

    LINES = "lines"  # GLM-4.5 and 4.6: name, keys and values on lines of their own
    COMPACT = "compact"  # GLM-4.7 and later: nothing between the tags


class ContentFormat(StrEnum):
    """How the chat template takes a message's content, where vLLM must not find that out by itself."""

    STRING = "string"
    OPENAI = "openai"


class Format(StrEnum):
    """How weights are stored."""

    BF16 = "bf16"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    MXFP4 = "mxfp4"


class KvCache(StrEnum):
    """vLLM's `--kv-cache-dtype`, as far as the recipes use it."""

    AUTO = "auto"  # as the weights compute, that is bfloat16
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"


class Thinking(Strict, frozen=True, kw_only=True):
    """When the model reasons before it answers, and what changes that."""

    by_default: bool
    switch: str | None = None
    """The chat template's keyword that is set to false for no thinking; null where it can't be turned off."""
    prompt_opens: bool | None = None
    """The prompt ends in `<think>`, so that the model's own text holds only the closing tag."""
    efforts: tuple[str, ...] = ()
    """Values of `reasoning_effort` that the template tells apart."""
    effort_default: str | None = None
    clear_switch: str | None = None
    """The template's keyword that, set to false, keeps the reasoning of earlier turns in the prompt."""
    keeps_by_default: bool | None = None


class Weights(Strict, frozen=True, kw_only=True):
    """One set of weights: in a Hugging Face repository, or in this distribution."""

    format: Format
    repository: str | None = None
    revision: str | None = None
    """The repository's commit; null where whoever deploys the model has to name one."""
    folder: str | None = None
    """Below `catalog/weights/`, for weights that come with this distribution."""
    size_bytes: Count
    """Size on disk, which is also what the weights take in memory."""
    kv_cache: KvCache | None = None
    expert_parallel: bool = False
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = {}

    def __post_init__(self) -> None:
        if (self.repository is None) == (self.folder is None):
            raise ValueError("weights are in a `repository` or in a `folder`: name one of them")


class OnHardware(Strict, frozen=True, kw_only=True):
    """What a model needs on one profile, one generation of GPUs, or one backend; the narrower one wins."""

    kv_cache: KvCache | None = None
    sequences_max: Count | None = None
    memory_share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Of a GPU's memory, where less than usual must be given to the engine."""
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = {}


class Speculation(Strict, frozen=True, kw_only=True):
    """Drafting tokens ahead."""

    method: str
    tokens: Count


class Minimum(Strict, frozen=True, kw_only=True):
    """The fewest GPUs that the model's maker or vLLM's recipe names; measured or reckoned by them, not by us."""

    format: Format
    profile: str
    gpus: Count
    whole_context: bool = False
    """For the model's whole context; else for some of it."""


class Price(Strict, frozen=True, kw_only=True):
    """List price of a million tokens, to begin a price book with; cached is null where none is listed."""

    currency: str = "USD"
    input: Decimal
    cached: Decimal | None = None
    output: Decimal
    source: str


class ModelRecord(Strict, frozen=True, kw_only=True):
    id: Name
    """The name that clients ask for, prices go by and the engine serves."""
    aliases: tuple[Name, ...] = ()
    base: str | None = None
    """For a fine-tune, the record that it was derived from."""
    kind: Kind = Kind.TEXT
    revision: str
    """Of what is served under this name: it changes when the weights or the template do."""
    owned_by: str
    released_at: CountOrNone | None = None
    """Seconds since the Unix epoch."""
    licence: str

    architecture: str | None = None
    """The class in Hugging Face's config, which vLLM looks up; null where vLLM has none."""
    architecture_mtp: str | None = None
    """vLLM's class for the layer that drafts tokens."""
    shape: Shape | None = None
    parameters: Count
    parameters_active: Count | None = None
    context_tokens: Count | None = None
    output_tokens_max: Count | None = None
    eos_ids: tuple[int, ...] | None = None

    tool_format: ToolFormat | None = None
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    content_format: ContentFormat | None = None
    thinking: Thinking | None = None
    prompt_overhead_tokens: CountOrNone
    """Upper bound of what the chat template adds to a prompt whose text is bounded by a token a byte."""

    vllm_minimum: str | None = None
    transformers_minimum: str | None = None
    needs: tuple[str, ...] = ()
    """What else has to be in the engine's image."""
    speculation: Speculation | None = None
    expert_parallel: bool = False
    flags: tuple[str, ...] = ()
    """vLLM arguments that this model needs wherever it runs."""
    environment: dict[str, str] = {}
    hardware: dict[str, OnHardware] = {}
    """By profile, generation or backend."""

    weights: Annotated[tuple[Weights, ...], Meta(min_length=1)]
    """In order of preference."""
    minimums: tuple[Minimum, ...] = ()
    price: Price | None = None
    unserved: str | None = None
    """Why Headrace's engine can't serve it; null for the models that it can."""

    def stored_as(self, wanted: Format | None = None) -> Weights:
        """The weights of this format, or the preferred ones."""
        if wanted is None:
            return self.weights[0]
        for weights in self.weights:
            if weights.format is wanted:
                return weights
        raise FormatMissing(self.id, wanted)


class FormatMissing(LookupError):
    """The model has no weights of this format."""

    code = "format_missing"

    def __init__(self, model: str, wanted: Format) -> None:
        super().__init__(f"{model} has no {wanted} weights")
