"""The dimensions of a model: what memory, parallel sizes and speed follow from.

Names are ours; the comment beside each gives Hugging Face's, from whose configurations the figures come.
"""

from typing import Literal

import msgspec


class Dimensions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Read from a file, and each number is above zero unless its comment says otherwise."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, int) and (value < 0 or (value == 0 and field not in MAY_BE_ZERO)):
                raise ValueError(f"`{field}` must be above zero")


# Position by other means than rotation; no layer without experts; no layer that drafts.
MAY_BE_ZERO = {"head_dim_rotated", "layers_dense", "layers_mtp"}


class GroupedQuery(Dimensions, frozen=True, kw_only=True, tag_field="kind", tag="gqa"):
    """Grouped-query attention: keys and values by head, shared out over the GPUs of a tensor group."""

    heads: int  # num_attention_heads
    heads_kv: int  # num_key_value_heads
    head_dim: int


class Indexer(Dimensions, frozen=True, kw_only=True):
    """The small attention that picks which tokens the large one looks at (DeepSeek sparse attention)."""

    heads: int  # index_n_heads
    head_dim: int  # index_head_dim
    tokens_picked: int  # index_topk
    layers: int
    """Layers that have an indexer of their own; others use an earlier one's choice."""
    pool_tokens: int = 1
    """Tokens that share one entry of its cache (index_kpool)."""


class Linear(Dimensions, frozen=True, kw_only=True):
    """Layers with Kimi delta attention: a state of fixed size a sequence, whatever its length."""

    layers: int
    heads: int
    head_dim: int
    convolution: int  # conv_kernel


class Latent(Dimensions, frozen=True, kw_only=True, tag_field="kind", tag="mla"):
    """Multi-head latent attention: one compressed entry a token, which each GPU of a tensor group has whole."""

    heads: int  # num_attention_heads
    rank_query: int  # q_lora_rank
    rank_kv: int  # kv_lora_rank
    head_dim_plain: int  # qk_nope_head_dim
    head_dim_rotated: int  # qk_rope_head_dim
    head_dim_value: int  # v_head_dim
    indexer: Indexer | None = None
    linear: Linear | None = None


Attention = GroupedQuery | Latent


class Experts(Dimensions, frozen=True, kw_only=True):
    routed: int  # n_routed_experts
    shared: int  # n_shared_experts
    per_token: int  # num_experts_per_tok
    feed_forward: int  # moe_intermediate_size


class Vision(Dimensions, frozen=True, kw_only=True):
    """The encoder of images; its weights are in the model's."""

    layers: int  # depth
    hidden: int
    heads: int
    image_tokens_max: int | None = None
    """What one image may cost at most; null where it is not known."""


class Shape(Dimensions, frozen=True, kw_only=True):
    layers: int  # num_hidden_layers
    layers_dense: int
    """The first layers, which have one feed-forward block and no experts."""
    layers_mtp: int = 0
    """Layers that draft tokens ahead; each keeps a cache like the others'."""
    hidden: int  # hidden_size
    feed_forward: int | None = None  # intermediate_size, of the dense layers
    vocabulary: int  # vocab_size
    attention: Attention
    experts: Experts | None = None
    vision: Vision | None = None

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
