"""The dimensions of a model: what memory, parallel sizes and speed follow from.

Names are ours; the comment beside each gives Hugging Face's, from whose configurations the figures come.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
CountOrNone = Annotated[int, Meta(ge=0)]


class Dimensions(Struct, frozen=True, forbid_unknown_fields=True):
    """Read from a file: a field that nobody knows is a mistake, not a surplus."""


class GroupedQuery(Dimensions, frozen=True, kw_only=True, tag_field="kind", tag="gqa"):
    """Grouped-query attention: keys and values by head, shared out over the GPUs of a tensor group."""

    heads: Count  # num_attention_heads
    heads_kv: Count  # num_key_value_heads
    head_dim: Count


class Indexer(Dimensions, frozen=True, kw_only=True):
    """The small attention that picks which tokens the large one looks at (DeepSeek sparse attention)."""

    heads: Count  # index_n_heads
    head_dim: Count  # index_head_dim
    tokens_picked: Count  # index_topk
    layers: Count
    """Layers that have an indexer of their own; others use an earlier one's choice."""
    pool_tokens: Count = 1
    """Tokens that share one entry of its cache (index_kpool)."""


class Linear(Dimensions, frozen=True, kw_only=True):
    """Layers with Kimi delta attention: a state of fixed size a sequence, whatever its length."""

    layers: Count
    heads: Count
    head_dim: Count
    convolution: Count  # conv_kernel


class Latent(Dimensions, frozen=True, kw_only=True, tag_field="kind", tag="mla"):
    """Multi-head latent attention: one compressed entry a token, which each GPU of a tensor group has whole."""

    heads: Count  # num_attention_heads
    rank_query: Count  # q_lora_rank
    rank_kv: Count  # kv_lora_rank
    head_dim_plain: Count  # qk_nope_head_dim
    head_dim_rotated: CountOrNone  # qk_rope_head_dim
    head_dim_value: Count  # v_head_dim
    indexer: Indexer | None = None
    linear: Linear | None = None


Attention = GroupedQuery | Latent


class Experts(Dimensions, frozen=True, kw_only=True):
    routed: Count  # n_routed_experts
    shared: Count  # n_shared_experts
    per_token: Count  # num_experts_per_tok
    feed_forward: Count  # moe_intermediate_size


class Vision(Dimensions, frozen=True, kw_only=True):
    """The encoder of images; its weights are in the model's."""

    layers: Count  # depth
    hidden: Count
    heads: Count
    image_tokens_max: Count
    """What one image costs at most."""


class Hearing(Dimensions, frozen=True, kw_only=True):
    """The encoder of audio; its weights are in the model's."""

    layers: Count  # num_hidden_layers of audio_config
    hidden: Count
    heads: Count
    token_milliseconds: Count
    """Of audio, for which one token stands."""
    seconds_max: Count
    """The longest recording that an engine is told to take: it and its transcript fit in the context."""


class Shape(Dimensions, frozen=True, kw_only=True):
    layers: Count  # num_hidden_layers
    layers_dense: CountOrNone
    """The first layers, which have one feed-forward block and no experts."""
    layers_mtp: CountOrNone = 0
    """Layers that draft tokens ahead; each keeps a cache like the others'."""
    hidden: Count  # hidden_size
    feed_forward: Count | None = None  # intermediate_size, of the dense layers
    vocabulary: Count  # vocab_size
    attention: Attention
    experts: Experts | None = None
    vision: Vision | None = None
    hearing: Hearing | None = None

    @property
    def attention_name(self) -> Literal["GQA", "MLA", "MLA, sparse", "KDA + sparse MLA"]:
        match self.attention:
            case GroupedQuery():
                return "GQA"
            case Latent(linear=Linear()):
                return "KDA + sparse MLA"
            case Latent(indexer=Indexer()):
                return "MLA, sparse"
            case Latent():
                return "MLA"
